//! The client asks for itself (RFC 6749 §4.4): scope by §3.3, resource by RFC 8707 §2, default audience by RFC 9068 §3.

use certbind_proto::client::Client;
use certbind_proto::request::Form;
use certbind_proto::resource::Resource;
use certbind_proto::scope::Scope;

use super::{AudienceShape, GrantFault, Granted, ResourceServer, Settings};

/// A scope that was asked for is granted whole or not at all: it is never cut down in silence, and never widened.
pub(super) fn authorize(settings: &Settings, client: &Client, form: &Form) -> Result<Granted, GrantFault> {
    let asked = asked_scope(client, form)?;
    let resources = asked_resources(settings, client, form)?;
    let audience = match (resources.is_empty(), &asked) {
        (false, _) => resources,
        (true, Some(scope)) => vec![default_resource(settings, client, scope)?],
        (true, None) => client.audiences.first().cloned().into_iter().collect(),
    };
    if audience.is_empty() {
        return Err(GrantFault::ResourceNotAllowed);
    }
    let foreign = foreign_scope(settings, &audience);
    let scope = match asked {
        Some(scope) if !scope.intersection(&foreign).is_empty() => return Err(GrantFault::ScopeOfOtherResource),
        Some(scope) => scope,
        None => client.scope.difference(&foreign),
    };
    Ok(Granted { audience, scope })
}

/// What was asked for; `None` stands for the documented default, which is all the client's scope at the resource.
fn asked_scope(client: &Client, form: &Form) -> Result<Option<Scope>, GrantFault> {
    let Some(text) = form.get("scope") else { return Ok(None) };
    let scope: Scope = text.parse().map_err(GrantFault::ScopeMalformed)?;
    if !scope.is_subset(&client.scope) {
        return Err(GrantFault::ScopeNotAllowed);
    }
    Ok(Some(scope))
}

fn asked_resources(settings: &Settings, client: &Client, form: &Form) -> Result<Vec<Resource>, GrantFault> {
    let mut resources = Vec::new();
    for text in form.all("resource") {
        let resource: Resource = text.parse().map_err(GrantFault::ResourceMalformed)?;
        if !client.audiences.contains(&resource) {
            return Err(GrantFault::ResourceNotAllowed);
        }
        if !resources.contains(&resource) {
            resources.push(resource);
        }
    }
    if resources.len() > 1 && settings.audience == AudienceShape::Single {
        return Err(GrantFault::SeveralResources);
    }
    Ok(resources)
}

/// The resource that the scope belongs to, when no resource was named. Scope of two resources is refused, as one
/// token for both would mean more at each of them than was asked for (RFC 9068 §3, §5).
fn default_resource(settings: &Settings, client: &Client, scope: &Scope) -> Result<Resource, GrantFault> {
    let belongs = |server: &&ResourceServer| {
        client.audiences.contains(&server.identifier) && !server.scope.intersection(scope).is_empty()
    };
    let mut owners = settings.resources.iter().filter(belongs);
    match (owners.next(), owners.next()) {
        (None, _) => client.audiences.first().cloned().ok_or(GrantFault::ResourceNotAllowed),
        (Some(owner), None) => Ok(owner.identifier.clone()),
        (Some(_), Some(_)) => Err(GrantFault::ScopeOfOtherResource),
    }
}

/// The scope that has a meaning elsewhere and none at the audience (RFC 9068 §2.2.3).
pub(super) fn foreign_scope(settings: &Settings, audience: &[Resource]) -> Scope {
    let all = |own: bool| {
        let servers = settings.resources.iter().filter(|server| audience.contains(&server.identifier) == own);
        servers.fold(Scope::default(), |scope, server| scope.union(&server.scope))
    };
    all(false).difference(&all(true))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use certbind_proto::client::{Method, State};
    use certbind_proto::subject::{Subject, SubjectKind};
    use proptest::prelude::*;

    use super::*;

    const PAY: &str = "https://pay.example";
    const LEDGER: &str = "https://ledger.example";

    fn client(scope: &str, audiences: &[&str]) -> Client {
        Client {
            client_id: "billing".to_owned(),
            client_name: None,
            method: Method::TlsClientAuth {
                subject: Subject::parse(SubjectKind::SanDns, "billing.example").unwrap(),
                trust: "corp".to_owned(),
            },
            scope: scope.parse().unwrap(),
            audiences: audiences.iter().map(|text| text.parse().unwrap()).collect(),
            resource_server: Vec::new(),
            grant_types: vec!["client_credentials".to_owned()],
            bound_tokens_only: false,
            bound_certificate_trust: None,
            token_lifetime: None,
            owner: None,
            labels: BTreeMap::new(),
            state: State::Active,
        }
    }

    fn settings() -> Settings {
        let server = |identifier: &str, scope: &str| ResourceServer {
            identifier: identifier.parse().unwrap(),
            scope: scope.parse().unwrap(),
        };
        Settings {
            resources: vec![server(PAY, "pay.read pay.write shared"), server(LEDGER, "ledger.read shared")],
            audience: AudienceShape::Several,
        }
    }

    fn ask(settings: &Settings, body: &str) -> Result<(Vec<String>, String), GrantFault> {
        let client = client("pay.read ledger.read shared anywhere", &[PAY, LEDGER]);
        let granted = authorize(settings, &client, &Form::parse(body.as_bytes()).unwrap())?;
        let audience = granted.audience.iter().map(|resource| resource.as_str().to_owned()).collect();
        Ok((audience, granted.scope.to_string()))
    }

    fn granted(audience: &[&str], scope: &str) -> Result<(Vec<String>, String), GrantFault> {
        Ok((audience.iter().map(|&text| text.to_owned()).collect(), scope.to_owned()))
    }

    #[test]
    fn rfc6749_3_3_scope_is_granted_whole_or_refused() {
        for (body, expected) in [
            ("scope=pay.read", granted(&[PAY], "pay.read")),
            ("scope=shared+pay.read", granted(&[PAY], "pay.read shared")),
            ("scope=anywhere", granted(&[PAY], "anywhere")),
            ("scope=pay.write", Err(GrantFault::ScopeNotAllowed)),
            ("scope=pay.read+unheard", Err(GrantFault::ScopeNotAllowed)),
            ("scope=PAY.READ", Err(GrantFault::ScopeNotAllowed)),
        ] {
            let body = if body == "scope=shared+pay.read" { format!("{body}&resource={PAY}") } else { body.to_owned() };
            assert_eq!(ask(&settings(), &body), expected, "{body}");
        }
        assert!(matches!(ask(&settings(), "scope=a%22b"), Err(GrantFault::ScopeMalformed(_))));
    }

    #[test]
    fn rfc6749_3_3_without_scope_the_client_gets_its_own_at_the_default_resource() {
        assert_eq!(ask(&settings(), ""), granted(&[PAY], "anywhere pay.read shared"));
        assert_eq!(ask(&Settings::default(), ""), granted(&[PAY], "anywhere ledger.read pay.read shared"));
    }

    #[test]
    fn rfc8707_2_a_resource_is_one_of_the_clients_or_invalid_target() {
        for (body, expected) in [
            ("resource=https://ledger.example", granted(&[LEDGER], "anywhere ledger.read shared")),
            (
                "resource=https://ledger.example&resource=https://ledger.example",
                granted(&[LEDGER], "anywhere ledger.read shared"),
            ),
            ("resource=https://other.example", Err(GrantFault::ResourceNotAllowed)),
            ("resource=https://pay.example/", Err(GrantFault::ResourceNotAllowed)),
            ("resource=pay", Err(GrantFault::ResourceMalformed(certbind_proto::resource::ResourceFault::Relative))),
        ] {
            assert_eq!(ask(&settings(), body), expected, "{body}");
        }
        for fault in [GrantFault::ResourceNotAllowed, GrantFault::SeveralResources] {
            assert_eq!(fault.code(), ErrorCode::InvalidTarget);
        }
    }

    #[test]
    fn rfc8707_2_2_several_resources_are_all_granted_or_refused() {
        let both = "resource=https://pay.example&resource=https://ledger.example";
        assert_eq!(ask(&settings(), both), granted(&[PAY, LEDGER], "anywhere ledger.read pay.read shared"));
        let single = Settings { audience: AudienceShape::Single, ..settings() };
        assert_eq!(ask(&single, both), Err(GrantFault::SeveralResources));
    }

    #[test]
    fn rfc9068_3_scope_of_two_resources_is_refused() {
        assert_eq!(ask(&settings(), "scope=ledger.read"), granted(&[LEDGER], "ledger.read"));
        for body in ["scope=pay.read+ledger.read", "scope=shared", "scope=pay.read&resource=https://ledger.example"] {
            assert_eq!(ask(&settings(), body), Err(GrantFault::ScopeOfOtherResource), "{body}");
        }
    }

    use certbind_proto::error::ErrorCode;

    proptest! {
        #[test]
        fn rfc6749_3_3_nothing_is_ever_widened(asked in "[a-d]( [a-d]){0,3}", own in "[a-d]( [a-d]){0,3}") {
            let client = client(&own, &[PAY]);
            let form = Form::default().with("scope", &asked);
            if let Ok(granted) = authorize(&settings(), &client, &form) {
                prop_assert!(granted.scope.is_subset(&client.scope));
                prop_assert_eq!(granted.scope, asked.parse::<Scope>().unwrap());
            }
        }
    }
}
