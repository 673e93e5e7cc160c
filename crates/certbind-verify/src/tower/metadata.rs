//! Serves the protected resource metadata before whatever stands behind it (RFC 9728 §3).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use certbind_proto::resource_metadata::ResourceMetadata;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use tower_layer::Layer;
use tower_service::Service;

/// Puts [`ServeMetadata`] before a service. It belongs outside of every [`VerifyLayer`](super::VerifyLayer): who has no token yet
/// learns here where there are some.
#[derive(Clone, Debug)]
pub struct MetadataLayer {
    document: Arc<Document>,
}

/// What is served, written once.
#[derive(Debug)]
struct Document {
    path: String,
    json: String,
}

impl MetadataLayer {
    /// Serves this document at its well-known path, to whoever asks.
    #[must_use]
    pub fn new(metadata: &ResourceMetadata) -> Self {
        Self { document: Arc::new(Document { path: metadata.path(), json: metadata.to_json() }) }
    }
}

impl<S> Layer<S> for MetadataLayer {
    type Service = ServeMetadata<S>;

    fn layer(&self, inner: S) -> ServeMetadata<S> {
        ServeMetadata { inner, document: Arc::clone(&self.document) }
    }
}

/// Answers at the well-known path, and passes everything else on.
#[derive(Clone, Debug)]
pub struct ServeMetadata<S> {
    inner: S,
    document: Arc<Document>,
}

impl<S, B, R> Service<Request<B>> for ServeMetadata<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    R: Default + From<String> + Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let target = request.uri().path_and_query().map_or("", |target| target.as_str());
        if target == self.document.path {
            let answer = self.document.answer(request.method());
            return Box::pin(async { Ok(answer) });
        }
        Box::pin(self.inner.call(request))
    }
}

impl Document {
    fn answer<R: Default + From<String>>(&self, method: &Method) -> Response<R> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut response = Response::new(R::default());
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let mut response = Response::new(R::from(self.json.clone()));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("max-age=3600"));
        response
    }
}
