//! The operations listener: health, readiness, version and metrics, and nothing of the OAuth surface.

use hyper::{Method, StatusCode};

use super::rig::Site;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operations_listener_answers_what_it_should_and_nothing_else() {
    let site = Site::new();
    let server = site.start();
    for (path, content_type, part) in [
        ("/livez", "text/plain; charset=utf-8", "ok\n"),
        ("/readyz", "text/plain; charset=utf-8", "ok\n"),
        ("/readyz?verbose", "text/plain; charset=utf-8", "[+] store\n"),
        ("/version", "text/plain; charset=utf-8", env!("CARGO_PKG_VERSION")),
        ("/metrics", "application/openmetrics-text; version=1.0.0; charset=utf-8", "certbind_build_info{"),
    ] {
        let answer = server.ask_operations(Method::GET, path).await;
        assert_eq!((answer.status, answer.headers["content-type"].to_str().unwrap()), (StatusCode::OK, content_type));
        assert!(answer.text.contains(part), "{path}: {}", answer.text);
        assert_eq!(answer.headers["cache-control"], "no-store");
    }
    let (_, metrics) = server.operations("/metrics").await;
    assert!(metrics.ends_with("# EOF\n"), "OpenMetrics has an end, so that half an answer shows");

    let refused = server.ask_operations(Method::POST, "/metrics").await;
    assert_eq!(
        (refused.status, refused.headers["allow"].to_str().unwrap()),
        (StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD")
    );
    for path in ["/", "/oauth2/token", "/.well-known/jwks.json", "/metrics/"] {
        assert_eq!(server.operations(path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
}
