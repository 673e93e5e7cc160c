//! One connection of a proxy carries the requests of many clients: nothing of one reaches another.

use certbind_proto::forwarded::Format;
use hyper::Version;

use super::rig::{Rig, bound_to, by_each_method, forwarded, thumbprint};
use crate::process::client::{Connection, billing};
use crate::process::rig::PKI;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_27_requests_of_different_clients_over_one_connection_do_not_mix() {
    let format = Format::Traefik;
    let (tls, socket) = (Rig::over_tls(format), Rig::over_a_socket(format, ""));
    for (rig, version) in [(&tls, Version::HTTP_11), (&tls, Version::HTTP_2), (&socket, Version::HTTP_11)] {
        let mut connection = rig.connect(version).await;
        for _ in 0..3 {
            for (method, form, who) in by_each_method() {
                let (answer, _) = rig.ask_over(&mut connection, "/oauth2/token", &form, &forwarded(format, who)).await;
                assert_eq!(bound_to(&answer.access_token()), thumbprint(who), "{version:?} {method}");
                let (_, event) = rig.ask_over(&mut connection, "/oauth2/token", &billing(), &vec![]).await;
                assert_eq!(event["reason"], "certificate_missing", "{version:?} after {method}");
                let stranger = forwarded(format, &PKI.thief.identity);
                let (_, event) = rig.ask_over(&mut connection, "/oauth2/token", &billing(), &stranger).await;
                assert_eq!(event["reason"], "chain_untrusted", "{version:?} after {method}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_27_requests_side_by_side_on_one_http2_connection_do_not_mix() {
    let format = Format::Alb;
    let rig = Rig::over_tls(format);
    let connection = rig.connect(Version::HTTP_2).await;
    let asked = |number: usize, mut own: Connection| async move {
        let clients = [&PKI.billing.identity, &PKI.sibling.identity, &PKI.thief.identity];
        let (who, is_billing) = (clients[number % 3], number.is_multiple_of(3));
        let headers = forwarded(format, who);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = own.post(billing().encode(), &headers).await.unwrap();
        assert_eq!(answer.status.is_success(), is_billing, "{number}: {}", answer.text);
        if is_billing {
            assert_eq!(bound_to(&answer.access_token()), thumbprint(who));
        }
    };
    let all: Vec<_> = (0..60).map(|number| tokio::spawn(asked(number, connection.another()))).collect();
    for one in all {
        one.await.unwrap();
    }
}
