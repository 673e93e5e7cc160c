//! Clients page by page: each once, in order, those of files and of the store.

use serde_json::{Value, json};

use super::rig::{AdminSite, Ask, CLIENTS, registration};

fn ids(page: &Value) -> Vec<String> {
    let clients = page["clients"].as_array().unwrap().iter();
    clients.map(|client| client["client_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc8288_pages_have_each_client_once_and_name_the_next() {
    let site = AdminSite::new();
    let (_server, mut api) = site.start("admin.sock").await;
    for n in 0..25 {
        let mut document = registration(&format!("c{n:02}"), "a");
        document["certbind"]["labels"] = json!({ "parity": if n % 2 == 0 { "even" } else { "odd" } });
        document["certbind"]["state"] = if n % 5 == 0 { "disabled" } else { "active" }.into();
        api.gets(201, Ask::create(&document)).await;
    }
    let all = ids(&api.gets(200, Ask::get(CLIENTS)).await.json());
    assert!(all.is_sorted() && all.len() == 25 + site.files(), "{all:?}");

    let (mut path, mut seen, mut pages) = (format!("{CLIENTS}?limit=10&source=store"), Vec::new(), 0);
    loop {
        let answer = api.gets(200, Ask::get(&path)).await;
        let page = answer.json();
        seen.extend(ids(&page));
        pages += 1;
        let Some(cursor) = page["next_cursor"].as_str() else {
            assert!(!answer.headers.contains_key("link"));
            break;
        };
        let next = answer.header("link").trim_start_matches('<').split('>').next().unwrap().to_owned();
        assert_eq!(next, format!("{CLIENTS}?limit=10&source=store&cursor={cursor}"));
        path = next;
    }
    let stored: Vec<_> =
        all.iter().filter(|id| id.starts_with("c0") || id.starts_with("c1") || id.starts_with("c2")).cloned().collect();
    assert_eq!((seen, pages), (stored, 3));

    for (query, count) in [
        ("source=file", site.files()),
        ("state=disabled", 5),
        ("label=parity%3Deven", 13),
        ("label=parity=odd&state=active", 10),
        ("method=self_signed_tls_client_auth", 1),
        ("method=private_key_jwt&source=store", 0),
    ] {
        let found = ids(&api.gets(200, Ask::get(&format!("{CLIENTS}?{query}"))).await.json());
        assert_eq!(found.len(), count, "{query}: {found:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_a_file_is_shown_and_its_tag_follows_the_file() {
    let site = AdminSite::new();
    let (_server, mut api) = site.start("admin.sock").await;
    for (client_id, method, member) in [
        ("billing", "tls_client_auth", "/tls_client_auth_san_uri"),
        ("ledger", "self_signed_tls_client_auth", "/certbind/certificates/0"),
        ("batch", "private_key_jwt", "/jwks/keys/0/kid"),
    ] {
        let shown = api.gets(200, Ask::get(&format!("{CLIENTS}/{client_id}"))).await.json();
        assert_eq!(shown["token_endpoint_auth_method"], method);
        assert!(shown.pointer(member).is_some_and(Value::is_string), "{member}: {shown}");
        assert_eq!(shown["registration"], json!({ "source": "file", "in_force": true, "complaints": [] }));
    }
    let before = api.gets(200, Ask::get(&format!("{CLIENTS}/billing"))).await;
    let text = std::fs::read_to_string(site.site.path("clients.d/billing.toml")).unwrap();
    site.site.write("clients.d/billing.toml", &text.replace("[certbind]", "[certbind]\nowner = \"ops\""));
    crate::process::rig::within(async {
        while api.send(Ask::get(&format!("{CLIENTS}/billing"))).await.tag() == before.tag() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    let after = api.gets(200, Ask::get(&format!("{CLIENTS}/billing"))).await.json();
    assert_eq!(after["certbind"]["owner"], "ops");
}
