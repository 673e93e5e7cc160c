//! The commands of docs/administration.md, in their order, against a running server.

use std::fs;

use super::rig::AdminSite;
use crate::documents::{commands, shell};
use crate::house;

/// The page whose commands are run here.
pub(crate) const PAGE: &str = "docs/administration.md";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_of_the_page_go_as_it_says() {
    let site = AdminSite::new();
    let (_server, _api) = site.start("admin.sock").await;
    let folder = site.site.dir();
    fs::copy(site.site.path("clients/billing.pem"), folder.join("invoices.pem")).unwrap();
    fs::copy(site.site.path("clients/ledger.pem"), folder.join("archive.pem")).unwrap();
    fs::copy(site.site.path("clients/billing.pem"), folder.join("archive-new.pem")).unwrap();
    fs::create_dir(folder.join("wanted")).unwrap();
    let wanted =
        fs::read_to_string(site.site.path("clients.d/billing.toml")).unwrap().replace("\"billing\"", "\"kept\"");
    fs::write(folder.join("wanted/kept.toml"), wanted).unwrap();
    let socket = site.socket("admin.sock");
    let mut count = 0;
    for block in house::blocks(PAGE).iter().filter(|block| block.language == "sh") {
        for command in commands(&block.text) {
            let line = format!("CERTBIND_ADMIN=unix:{} {command}", socket.display());
            let output = shell(&line, folder);
            let said =
                format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert_eq!(output.status.code(), Some(0), "{command}\n{said}");
            count += 1;
        }
    }
    assert!(count > 10, "{count} commands");
}
