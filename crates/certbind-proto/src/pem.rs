//! DER to PEM (RFC 7468).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// The longest line (RFC 7468 §2).
const LINE: usize = 64;

/// A block of this label, as strict writers write it. It may be a private key: nothing of it stays in memory.
#[must_use]
pub fn write(label: &str, der: &[u8]) -> Zeroizing<String> {
    let text = Zeroizing::new(STANDARD.encode(der));
    // With room for all of it: what grows leaves copies behind.
    let mut pem = Zeroizing::new(String::with_capacity(text.len() + text.len() / LINE + 2 * label.len() + 40));
    pem.push_str(&format!("-----BEGIN {label}-----\n"));
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject as _;

    use super::*;

    #[test]
    fn rfc7468_2_lines_are_full_but_the_last_and_what_was_written_can_be_read() {
        for length in [0, 1, 47, 48, 49, 96, 700] {
            let der: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let pem = write("CERTIFICATE", &der);
            assert!(pem.capacity() <= pem.len() + 40 && pem.ends_with("-----END CERTIFICATE-----\n"), "{length}");
            let lines: Vec<_> = pem.lines().filter(|line| !line.starts_with('-')).map(str::len).collect();
            assert!(lines.iter().rev().skip(1).all(|len| *len == LINE) && lines.iter().all(|len| *len <= LINE));
            if length > 0 {
                assert_eq!(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().as_ref(), der, "{length}");
            }
        }
    }
}
