//! Writes the development PKI into a folder: `cargo run -p certbind-devpki --example dev_certs -- certs`.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use certbind_devpki::{DevPki, Validity};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: dev_certs FOLDER")?);
    #[expect(clippy::disallowed_methods, reason = "a program of its own, with no flow to read the clock for it")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let pki = DevPki::generate(Validity::days_from(i64::try_from(now)? - 3600, 365))?;
    for path in pki.write_to(&folder)? {
        println!("{}", path.display());
    }
    Ok(())
}
