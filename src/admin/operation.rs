//! Method and path to operation: one table, from which the router and the OpenAPI document are made.

use hyper::Method;

use super::access::Role;
use super::problem::Problem;

/// One thing that can be asked for.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// Which one.
    pub id: OperationId,
    /// Its method.
    pub method: &'static str,
    /// Its path; `{client_id}`, `{kid}` and `{thumbprint}` stand for an identifier, percent-encoded.
    pub path: &'static str,
    /// The least role that may ask for it.
    pub role: Role,
    /// What it does, in a few words.
    pub summary: &'static str,
}

/// Which operation; also the `route` label of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationId {
    /// Clients, page by page.
    ListClients,
    /// A new client.
    CreateClient,
    /// One client.
    ReadClient,
    /// Another registration for a client, as a whole.
    ReplaceClient,
    /// Other values for some members (RFC 7396).
    ChangeClient,
    /// A client less.
    DeleteClient,
    /// No more tokens for a client.
    DisableClient,
    /// Tokens again.
    EnableClient,
    /// What a client proves itself with.
    ReadCredentials,
    /// The same of all clients, page by page.
    ListCredentials,
    /// The signing keys.
    ListKeys,
    /// Another signing key.
    RotateKeys,
    /// A signing key less, at once.
    RetireKey,
    /// What is revoked, page by page.
    ListRevocations,
    /// A certificate, or what a client has by now, is no longer good.
    Revoke,
    /// Audit lines of the store, page by page.
    SearchAudit,
    /// Their chains.
    ListAuditChains,
    /// A certificate that was revoked authenticates again.
    LiftRevocation,
    /// How the server stands.
    ReadStatus,
    /// Whom it trusts.
    ListTrustAnchors,
    /// Which clients share a name.
    ListSharedSubjects,
    /// Files are read again.
    Reload,
    /// The description of all this.
    ReadOpenApi,
}

impl OperationId {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ListClients => "list_clients",
            Self::CreateClient => "create_client",
            Self::ReadClient => "read_client",
            Self::ReplaceClient => "replace_client",
            Self::ChangeClient => "change_client",
            Self::DeleteClient => "delete_client",
            Self::DisableClient => "disable_client",
            Self::EnableClient => "enable_client",
            Self::ReadCredentials => "read_credentials",
            Self::ListCredentials => "list_credentials",
            Self::ListKeys => "list_keys",
            Self::RotateKeys => "rotate_keys",
            Self::RetireKey => "retire_key",
            Self::ListRevocations => "list_revocations",
            Self::Revoke => "revoke",
            Self::LiftRevocation => "lift_revocation",
            Self::SearchAudit => "search_audit",
            Self::ListAuditChains => "list_audit_chains",
            Self::ReadStatus => "read_status",
            Self::ListTrustAnchors => "list_trust_anchors",
            Self::ListSharedSubjects => "list_shared_subjects",
            Self::Reload => "reload",
            Self::ReadOpenApi => "read_openapi",
        }
    }

    /// Whether it changes anything.
    #[must_use]
    pub const fn is_change(self) -> bool {
        match self {
            Self::ListClients
            | Self::ReadClient
            | Self::ReadCredentials
            | Self::ListCredentials
            | Self::ListKeys
            | Self::ListRevocations
            | Self::SearchAudit
            | Self::ListAuditChains
            | Self::ReadStatus
            | Self::ListTrustAnchors
            | Self::ListSharedSubjects
            | Self::ReadOpenApi => false,
            Self::CreateClient
            | Self::ReplaceClient
            | Self::ChangeClient
            | Self::DeleteClient
            | Self::DisableClient
            | Self::EnableClient
            | Self::RotateKeys
            | Self::RetireKey
            | Self::Revoke
            | Self::LiftRevocation
            | Self::Reload => true,
        }
    }
}

const REVOCATIONS: &str = "/admin/v1/revocations";
const CLIENTS: &str = "/admin/v1/clients";
const CLIENT: &str = "/admin/v1/clients/{client_id}";

/// Everything that can be asked for.
pub const OPERATIONS: &[Operation] = &[
    operation(OperationId::ListClients, "GET", CLIENTS, Role::Viewer, "List clients, page by page"),
    operation(OperationId::CreateClient, "POST", CLIENTS, Role::Operator, "Register a client"),
    operation(OperationId::ReadClient, "GET", CLIENT, Role::Viewer, "Look at a client"),
    operation(
        OperationId::ReplaceClient,
        "PUT",
        CLIENT,
        Role::Operator,
        "Replace a registration, or make it under this name",
    ),
    operation(OperationId::ChangeClient, "PATCH", CLIENT, Role::Operator, "Change some members of a registration"),
    operation(OperationId::DeleteClient, "DELETE", CLIENT, Role::Admin, "Remove a client"),
    operation(
        OperationId::DisableClient,
        "POST",
        "/admin/v1/clients/{client_id}/disable",
        Role::Operator,
        "Give a client no more tokens",
    ),
    operation(
        OperationId::EnableClient,
        "POST",
        "/admin/v1/clients/{client_id}/enable",
        Role::Operator,
        "Give a client tokens again",
    ),
    operation(
        OperationId::ReadCredentials,
        "GET",
        "/admin/v1/clients/{client_id}/credentials",
        Role::Viewer,
        "See what a client proves itself with, and when it last did",
    ),
    operation(
        OperationId::ListCredentials,
        "GET",
        "/admin/v1/credentials",
        Role::Viewer,
        "See what clients prove themselves with, page by page",
    ),
    operation(OperationId::ListKeys, "GET", "/admin/v1/keys", Role::Viewer, "List the signing keys"),
    operation(
        OperationId::RotateKeys,
        "POST",
        "/admin/v1/keys/rotate",
        Role::Operator,
        "Publish the next signing key, which signs once caches know it",
    ),
    operation(
        OperationId::RetireKey,
        "POST",
        "/admin/v1/keys/{kid}/retire",
        Role::Admin,
        "Take a signing key back: from now on it neither signs nor is it published",
    ),
    operation(OperationId::ListRevocations, "GET", REVOCATIONS, Role::Viewer, "List what is revoked, page by page"),
    operation(
        OperationId::Revoke,
        "POST",
        REVOCATIONS,
        Role::Operator,
        "Revoke a certificate for good, or all tokens that a client has by now",
    ),
    operation(
        OperationId::LiftRevocation,
        "DELETE",
        "/admin/v1/revocations/certificate/{thumbprint}",
        Role::Admin,
        "Let a certificate authenticate again that was revoked by mistake",
    ),
    operation(
        OperationId::SearchAudit,
        "GET",
        "/admin/v1/audit",
        Role::Viewer,
        "Search the audit lines that the servers of this store have written to it, page by page",
    ),
    operation(
        OperationId::ListAuditChains,
        "GET",
        "/admin/v1/audit/chains",
        Role::Viewer,
        "List the hash chains of these lines",
    ),
    operation(OperationId::ReadStatus, "GET", "/admin/v1/status", Role::Viewer, "See how the server stands"),
    operation(
        OperationId::ListTrustAnchors,
        "GET",
        "/admin/v1/trust-anchors",
        Role::Viewer,
        "See whom the server trusts to vouch for clients",
    ),
    operation(
        OperationId::ListSharedSubjects,
        "GET",
        "/admin/v1/shared-subjects",
        Role::Viewer,
        "See which clients share a name, so that a certificate of one is good for the others",
    ),
    operation(OperationId::Reload, "POST", "/admin/v1/reload", Role::Operator, "Read changed files again, now"),
    operation(OperationId::ReadOpenApi, "GET", "/admin/v1/openapi.json", Role::Viewer, "Read this document"),
];

const fn operation(
    id: OperationId,
    method: &'static str,
    path: &'static str,
    role: Role,
    summary: &'static str,
) -> Operation {
    Operation { id, method, path, role, summary }
}

/// An operation with what its path names.
#[derive(Debug)]
pub(super) struct Matched {
    pub(super) operation: &'static Operation,
    pub(super) named: Named,
}

/// What a path names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Named {
    #[default]
    Nothing,
    Client(String),
    Key(String),
    Certificate(String),
}

/// The operation of a request. `HEAD` is a `GET` whose body is not sent (RFC 9110 §9.3.2).
///
/// # Errors
/// [`Problem::NotFound`], or [`Problem::MethodNotAllowed`] with the methods that there are.
pub(super) fn find(method: &Method, path: &str) -> Result<Matched, Problem> {
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    let here: Vec<_> =
        OPERATIONS.iter().filter_map(|operation| Some((operation, fits(operation.path, path)?))).collect();
    let allow = here.iter().map(|(operation, _)| operation.method).collect();
    match here.into_iter().find(|(operation, _)| operation.method == method) {
        Some((operation, named)) => Ok(Matched { operation, named }),
        None if path_is_known(path) => Err(Problem::MethodNotAllowed(allow)),
        None => Err(Problem::NotFound),
    }
}

fn path_is_known(path: &str) -> bool {
    OPERATIONS.iter().any(|operation| fits(operation.path, path).is_some())
}

/// What stands at `{client_id}`, `{kid}` or `{thumbprint}`, if the path has this form. A path that can be read in two ways fits nothing.
fn fits(template: &str, path: &str) -> Option<Named> {
    let (mut parts, mut named) = (path.split('/'), Named::Nothing);
    for expected in template.split('/') {
        match (expected, parts.next()?) {
            ("{client_id}" | "{kid}" | "{thumbprint}", "" | "." | "..") => return None,
            ("{client_id}", part) => named = Named::Client(decode(part)?),
            ("{kid}", part) => named = Named::Key(decode(part)?),
            ("{thumbprint}", part) => named = Named::Certificate(decode(part)?),
            (expected, part) if expected == part => {}
            _ => return None,
        }
    }
    parts.next().is_none().then_some(named)
}

/// Undoes percent-encoding (RFC 3986 §2.1).
pub(super) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                let digit = |byte: u8| char::from(byte).to_digit(16);
                bytes.push(u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()?);
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_one_operation_or_to_none() {
        let found =
            |method: Method, path: &str| find(&method, path).ok().map(|matched| (matched.operation.id, matched.named));
        let some = |client_id: &str| Named::Client(client_id.to_owned());
        for (method, path, expected) in [
            (Method::GET, "/admin/v1/clients", Some((OperationId::ListClients, Named::Nothing))),
            (Method::HEAD, "/admin/v1/clients", Some((OperationId::ListClients, Named::Nothing))),
            (Method::GET, "/admin/v1/clients/billing", Some((OperationId::ReadClient, some("billing")))),
            (Method::GET, "/admin/v1/clients/a%2Fb%20c", Some((OperationId::ReadClient, some("a/b c")))),
            (Method::GET, "/admin/v1/clients/a+b", Some((OperationId::ReadClient, some("a+b")))),
            (Method::POST, "/admin/v1/clients/x/disable", Some((OperationId::DisableClient, some("x")))),
            (Method::POST, "/admin/v1/keys/rotate", Some((OperationId::RotateKeys, Named::Nothing))),
            (Method::POST, "/admin/v1/keys/k%31/retire", Some((OperationId::RetireKey, Named::Key("k1".to_owned())))),
            (Method::POST, "/admin/v1/keys/retire", None),
            (Method::POST, "/admin/v1/keys//retire", None),
            (Method::GET, "/admin/v1/clients/", None),
            (Method::GET, "/admin/v1/clients/..", None),
            (Method::GET, "/admin/v1/clients/x/", None),
            (Method::GET, "/admin/v1/clients/%zz", None),
            (Method::GET, "/admin/v1/clients/%f", None),
            (Method::GET, "/admin/v1/clients/%ff", None),
            (Method::GET, "//admin/v1/clients", None),
            (Method::GET, "/admin/v1/clients/x/disable", None),
        ] {
            assert_eq!(found(method, path), expected, "{path}");
        }
    }

    #[test]
    fn rfc9110_15_5_6_another_method_is_told_which_there_are() {
        let Err(Problem::MethodNotAllowed(allow)) = find(&Method::PUT, "/admin/v1/clients") else {
            panic!("a problem")
        };
        assert_eq!(allow, ["GET", "POST"]);
        assert!(matches!(find(&Method::PUT, "/nowhere"), Err(Problem::NotFound)));
    }

    #[test]
    fn what_takes_something_away_for_good_or_gives_it_back_needs_the_highest_role() {
        for operation in OPERATIONS {
            let expected = match operation.id {
                OperationId::DeleteClient | OperationId::RetireKey | OperationId::LiftRevocation => Role::Admin,
                id if id.is_change() => Role::Operator,
                _ => Role::Viewer,
            };
            assert_eq!(operation.role, expected, "{:?}", operation.id);
        }
    }
}
