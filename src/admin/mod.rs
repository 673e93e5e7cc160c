//! The admin API: who may ask, what was asked, what came of it. Each request for a change leaves its line in the audit log
//! before it is made, and each refusal leaves one as well.
//!
//! | file | takes | gives |
//! |---|---|---|
//! | `access` | a connection | [`Actor`], or a refusal |
//! | `operation` | method and path | one of the [`OPERATIONS`], with the role that it needs |
//! | `body`, `query`, `condition` | body, query, headers | what is asked for, within bounds |
//! | `clients` | what is asked for | what is there, or a change of it |
//! | `difference` | a registration before and after | what the audit log says of the change |
//! | `credentials` | what is asked for | what clients prove themselves with, and when they last did |
//! | `keys` | what is asked for | the signing keys, or another one, or one less |
//! | `revocations` | what shall be revoked | it is, everywhere; and all that is |
//! | `server` | the server around it | how it stands, whom it trusts |
//! | `problem` | why not | status and `application/problem+json` (RFC 9457) |
//! | `openapi` | the table of operations | the document that describes them |

use std::sync::Arc;
use std::time::Instant;

use certbind_proto::entropy::Entropy;
use certbind_proto::thumbprint::Thumbprint;
use certbind_proto::time::{Clock, Timestamp};
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::ORIGIN;

use crate::audit::{Audit, Event, Kind, peer_text};
use crate::http::{BodyLimits, request_id};
use crate::metrics::Metrics;
use crate::mint::ring::KeyRing;
use crate::net::{ConnInfo, PeerCert, Process, Reply};
use crate::registry::Clients;
use crate::revocation::Revocations;
use crate::store::{AuditStore, ClientStore};
use crate::usage::Usages;

mod access;
mod audit_lines;
mod body;
mod clients;
mod condition;
mod credentials;
mod difference;
mod host;
mod keys;
mod merge;
mod openapi;
mod operation;
mod problem;
mod query;
mod reply;
mod resource;
mod revocations;
mod server;

pub use access::{Access, Actor, Administrator, Role};
pub use clients::MOST_BYTES;
pub use host::{Host, Reloaded, Standing};
pub use openapi::document as openapi_document;
pub use operation::{OPERATIONS, Operation, OperationId};
pub use problem::Problem;
pub(crate) use resource::READ_ONLY;
pub use revocations::RevocationFault;

use operation::{Matched, Named};

/// What the admin API works with.
pub struct Admin {
    /// Who may ask.
    pub access: Access,
    /// The clients that are in force.
    pub clients: Clients,
    /// The signing keys.
    pub keys: Arc<KeyRing>,
    /// What is revoked.
    pub revocations: Arc<Revocations>,
    /// Which credentials are in use.
    pub usages: Arc<Usages>,
    /// The server around it.
    pub host: Arc<dyn Host>,
    /// Where clients are changed.
    pub store: Arc<dyn ClientStore>,
    /// Where audit lines are searched.
    pub lines: Arc<dyn AuditStore>,
    /// Tells the time; a request asks it once.
    pub clock: Arc<dyn Clock>,
    /// Where ids are drawn from.
    pub entropy: Arc<dyn Entropy>,
    /// Where requests for changes and refusals are written down.
    pub audit: Arc<dyn Audit>,
    /// Where requests are counted.
    pub metrics: Arc<Metrics>,
    /// Bounds on a body.
    pub limits: BodyLimits,
}

/// One request as far as it is known; for the audit log.
pub(crate) struct Asked {
    request_id: String,
    listener: Arc<str>,
    peer: Option<String>,
    process: Option<Process>,
    now: Timestamp,
    certificate: Option<Arc<PeerCert>>,
    tls: Option<&'static str>,
    actor: Option<Actor>,
    operation: Option<OperationId>,
    client_id: Option<String>,
    kid: Option<String>,
    thumbprint: Option<Thumbprint>,
}

impl Admin {
    /// Answers one request.
    pub async fn call(&self, request: Request<Incoming>, connection: &ConnInfo) -> Reply {
        let started = Instant::now();
        let mut asked = self.asked(connection);
        let outcome = self.answer(request, connection, &mut asked).await;
        let route = asked.operation.map_or("unknown", OperationId::as_str);
        if let Err(problem) = &outcome {
            self.record_refusal(problem, &asked);
        }
        let reply = reply::finish(outcome, &asked.request_id);
        self.metrics.http_request(&asked.listener, route, reply.status().as_u16(), started.elapsed());
        reply
    }

    fn asked(&self, connection: &ConnInfo) -> Asked {
        Asked {
            request_id: request_id(&*self.entropy),
            listener: Arc::clone(&connection.listener),
            process: connection.process,
            peer: connection.process.is_none().then(|| connection.peer.to_string()),
            now: self.clock.now(),
            certificate: connection.certificate.clone(),
            tls: connection.tls.as_ref().map(|tls| tls.version.as_str()),
            actor: None,
            operation: None,
            client_id: None,
            kid: None,
            thumbprint: None,
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        connection: &ConnInfo,
        asked: &mut Asked,
    ) -> Result<Reply, Problem> {
        let actor = self.access.identify(connection, &self.revocations, asked.now)?;
        let role = actor.role;
        asked.actor = Some(actor);
        // There are no cookies, but a browser shows its user's certificate to whoever has it asked.
        if request.headers().contains_key(ORIGIN) {
            return Err(Problem::AskedByPage);
        }
        let Matched { operation, named } = operation::find(request.method(), request.uri().path())?;
        asked.operation = Some(operation.id);
        let name = match &named {
            Named::Nothing => String::new(),
            Named::Client(client_id) => asked.client_id.insert(client_id.clone()).clone(),
            Named::Key(kid) => asked.kid.insert(kid.clone()).clone(),
            Named::Certificate(thumbprint) => thumbprint.clone(),
        };
        if role < operation.role {
            return Err(Problem::RoleInsufficient);
        }
        match operation.id {
            OperationId::ListClients => self.list_clients(&request),
            OperationId::CreateClient => self.create_client(request, asked).await,
            OperationId::ReadClient => self.read_client(&request, &name),
            OperationId::ReplaceClient => self.replace_client(request, &name, asked).await,
            OperationId::ChangeClient => self.change_client(request, &name, asked).await,
            OperationId::DeleteClient => self.delete_client(&request, &name, asked).await,
            OperationId::DisableClient | OperationId::EnableClient => {
                let state = if operation.id == OperationId::DisableClient { "disabled" } else { "active" };
                self.set_state(&request, &name, state, asked).await
            }
            OperationId::ReadCredentials => self.read_credentials(&request, &name).await,
            OperationId::ListCredentials => self.list_credentials(&request).await,
            OperationId::ListKeys => self.list_keys(&request, asked),
            OperationId::RotateKeys => self.rotate_keys(&request, asked).await,
            OperationId::RetireKey => self.retire_key(&request, &name, asked).await,
            OperationId::ListRevocations => self.list_revocations(&request, asked),
            OperationId::Revoke => self.revoke(request, asked).await,
            OperationId::LiftRevocation => self.lift_revocation(&request, &name, asked).await,
            OperationId::SearchAudit => self.search_audit(&request).await,
            OperationId::ListAuditChains => self.list_audit_chains(&request).await,
            OperationId::ReadStatus => self.read_status(&request, asked),
            OperationId::ListTrustAnchors => self.list_trust_anchors(&request),
            OperationId::ListSharedSubjects => self.list_shared_subjects(&request).await,
            OperationId::Reload => self.reload(&request, asked).await,
            OperationId::ReadOpenApi => {
                query::none(&request)?;
                Ok(reply::document(&openapi::document()))
            }
        }
    }

    /// Writes down what is about to be changed. Where the audit log is required the change waits for it.
    async fn record_request(&self, asked: &Asked, detail: String) -> Result<(), Problem> {
        let event = Event { detail: Some(detail), ..asked.event(Kind::AdminRequested) };
        self.audit.record_durably(&event).await.map_err(|_| Problem::AuditUnavailable)
    }

    fn record_change(&self, asked: &Asked, kind: Kind, detail: String) {
        let event = Event { detail: Some(detail), outcome: Some("success"), ..asked.event(kind) };
        self.audit.record(&event);
    }

    /// To look for something that is not there, or in a way that is not understood, gives nothing away: only changes
    /// and people that are refused are told.
    fn record_refusal(&self, problem: &Problem, asked: &Asked) {
        let is_change = asked.operation.is_some_and(OperationId::is_change);
        if is_change || problem.is_about_access() {
            let (outcome, reason) = (Some("failure"), Some(problem.fact()));
            let detail = asked.operation.map(|operation| match &asked.kid {
                Some(kid) => format!("{} {}", operation.as_str(), peer_text(kid)),
                None => operation.as_str().to_owned(),
            });
            self.audit.record(&Event { outcome, reason, detail, ..asked.event(Kind::AdminRefused) });
        }
    }
}

impl Asked {
    fn event(&self, kind: Kind) -> Event {
        let certificate = self.certificate.as_ref().and_then(|certificate| certificate.summary());
        Event {
            ts: self.now.to_string(),
            event: Some(kind),
            request_id: Some(self.request_id.clone()),
            listener: Some(self.listener.to_string()),
            actor: self.actor.as_ref().map(|actor| actor.name.clone()).or_else(|| self.process.map(access::name_of)),
            client_id: self.client_id.as_deref().map(peer_text),
            cnf_x5t_s256: self.thumbprint.as_ref().map(ToString::to_string),
            cert_subject: certificate.map(|certificate| peer_text(&certificate.subject)),
            cert_serial: certificate.map(|certificate| peer_text(&certificate.serial)),
            cert_not_after: certificate.map(|certificate| certificate.not_after.clone()),
            peer: self.peer.clone(),
            tls: self.tls,
            ..Event::default()
        }
    }
}
