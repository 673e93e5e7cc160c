//! Fault 26: a wrong file is refused with line and reason, and none starts weaker than asked.

use super::*;

/// What is typed instead of what in [`GOOD`], and the one complaint that follows.
const WRONG: &[(&str, &str, &str)] = &[
    // Keys.
    ("data_dir =", "datadir =", "certbind.toml:2:1: datadir: there is no such key; did you mean `data_dir`?"),
    (
        "address =",
        "adress =",
        "certbind.toml:6:1: listen.mtls.adress: there is no such key; did you mean `listen.mtls.address`?",
    ),
    (
        "[tokens]\nlifetime = \"5m\"",
        "[token]\nx = 1",
        "certbind.toml:15:2: token: there is no such key; did you mean `tokens`?",
    ),
    ("profile = ", "colour = ", "certbind.toml:3:1: colour: there is no such key"),
    (
        "profile = \"default\"",
        "lifetime = \"5m\"",
        "certbind.toml:3:1: lifetime: there is no such key; did you mean `tokens.lifetime`?",
    ),
    ("[log]", "[guard]\n[log]", "certbind.toml:18:2: guard: there is no such key"),
    ("profile =", "\"listen.mtls.key\" =", "certbind.toml:3:1: \"listen.mtls.key\": there is no such key"),
    ("crl =", "crls =", "certbind.toml:13:1: trust.0.crls: there is no such key; did you mean `trust.0.crl`?"),
    ("cert = \"file:server.pem\"\n", "", "certbind.toml:5:9: listen.mtls.cert: is missing"),
    ("name = \"corp\"\n", "", "certbind.toml:10:1: trust.0.name: is missing"),
    ("issuer = \"https://localhost:8443\"\n", "", "certbind.toml: issuer: is missing"),
    // Types and notations.
    (
        "\"5m\"",
        "300",
        "certbind.toml:16:1: tokens.lifetime: should be a number with a unit in quotes, as in \"5m\"; it is a whole number",
    ),
    (
        "[[trust]]",
        "[trust]",
        "certbind.toml:10:2: trust: should be an array of tables, in double brackets, as in [[trust]]; it is a table",
    ),
    (
        "[\"file:corp.crl\"]",
        "\"file:corp.crl\"",
        "certbind.toml:13:1: trust.0.crl: should be a list of references in quotes, as in [\"file:/etc/certbind/crl/corp.crl\"]; it is a text",
    ),
    (
        "level = \"info\"",
        "format = true",
        "certbind.toml:19:1: log.format: should be a text in quotes; it is true or false",
    ),
    (
        "\"5m\"",
        "\"5 minutes\"",
        "certbind.toml:16:1: tokens.lifetime: \"5 minutes\" is not a duration; write a number and ms, s, m, h or d, as in \"5m\"",
    ),
    (
        "\"127.0.0.1:8443\"",
        "\":8443\"",
        "certbind.toml:6:1: listen.mtls.address: \":8443\" is not an IP address with a port; did you mean \"[::]:8443\"?",
    ),
    (
        "[log]",
        "[limits]\ntoken_requests_per_client = \"fast\"\n[log]",
        "certbind.toml:19:1: limits.token_requests_per_client: \"fast\" is not a rate; write \"off\", or a number of times in a second, minute or hour, as in \"50/s\"",
    ),
    (
        "name = \"corp\"",
        "name = \"corp network\"",
        "certbind.toml:11:1: trust.0.name: \"corp network\" is not a name; write up to 64 letters, digits, `-`, `_` and `.`",
    ),
    ("name = \"corp\"", "name = \"\"", "certbind.toml:11:1: trust.0.name: is empty"),
    (
        "\"info\"",
        "\"inof\"",
        "certbind.toml:19:1: log.level: \"inof\" is none of error, warn, info, debug, trace; did you mean `info`?",
    ),
    (
        "\"default\"",
        "\"fapi1\"",
        "certbind.toml:3:1: profile: \"fapi1\" is none of default, fapi2; did you mean `fapi2`?",
    ),
    (
        "lifetime = \"5m\"",
        "algorithm = \"none\"",
        "certbind.toml:16:1: tokens.algorithm: \"none\" is none of ES256, EdDSA, PS256, RS256",
    ),
    // Bounds.
    ("\"5m\"", "\"5s\"", "certbind.toml:16:1: tokens.lifetime: \"5s\" is out of bounds; from 10s to 1d is allowed"),
    ("\"5m\"", "\"25h\"", "certbind.toml:16:1: tokens.lifetime: \"25h\" is out of bounds; from 10s to 1d is allowed"),
    (
        "[log]",
        "[assertions]\nclock_skew = \"61s\"\n[log]",
        "certbind.toml:19:1: assertions.clock_skew: \"61s\" is out of bounds; from 0s to 1m is allowed",
    ),
    (
        "name = \"corp\"",
        "name = \"corp\"\nmax_chain_depth = 7",
        "certbind.toml:12:1: trust.0.max_chain_depth: 7 is out of bounds; from 0 to 5 is allowed",
    ),
    (
        "[log]",
        "[limits]\nconnections = 0\n[log]",
        "certbind.toml:19:1: limits.connections: 0 is out of bounds; from 1 to 1000000 is allowed",
    ),
    // URLs (R8414-2-a, R6749-3.2-b).
    ("https://localhost", "http://localhost", "certbind.toml:1:1: issuer: must begin with `https://` (RFC 8414 §2)"),
    (
        ":8443\"\ndata",
        ":8443?x=1\"\ndata",
        "certbind.toml:1:1: issuer: has a query, which it must not have (RFC 8414 §2)",
    ),
    (
        ":8443\"\ndata",
        ":8443/#x\"\ndata",
        "certbind.toml:1:1: issuer: has a fragment, which it must not have (RFC 8414 §2, RFC 6749 §3.2)",
    ),
    (
        "cert = ",
        "public_url = \"http://localhost\"\ncert = ",
        "certbind.toml:7:1: listen.mtls.public_url: must begin with `https://` (RFC 8414 §2)",
    ),
    (
        "cert = ",
        "public_url = \"https://localhost/mtls\"\ncert = ",
        "certbind.toml:7:1: listen.mtls.public_url: must be `https://host` or `https://host:port`, with nothing behind, not even a slash",
    ),
    // References and the files behind them (attack 41).
    (
        "file:server.key",
        "server.key",
        "certbind.toml:8:1: listen.mtls.key: is not a reference; write `file:`, `env:` or `cred:` before it, as in \"file:/etc/certbind/tls/server.pem\"",
    ),
    ("file:server.pem", "file:gone.pem", "certbind.toml:7:1: listen.mtls.cert: gone.pem does not exist"),
    ("file:server.pem", "file:empty", "certbind.toml:7:1: listen.mtls.cert: empty is empty"),
    ("file:server.pem", "file:clients.d", "certbind.toml:7:1: listen.mtls.cert: clients.d is not a file"),
    (
        "file:server.pem",
        "file:ca.pem/x",
        "certbind.toml:7:1: listen.mtls.cert: ca.pem/x cannot be read: not a directory",
    ),
    (
        "file:server.pem",
        "file:text",
        "certbind.toml:7:1: listen.mtls.cert: holds no certificate that can be read; PEM with BEGIN CERTIFICATE is wanted",
    ),
    (
        "file:server.pem",
        "file:garbage",
        "certbind.toml:7:1: listen.mtls.cert: holds a certificate that is not read: not strict DER",
    ),
    (
        "server.pem\"\nkey = \"file:server",
        "expired.pem\"\nkey = \"file:expired",
        "certbind.toml:7:1: listen.mtls.cert: the certificate expired at 2026-11-12T00:00:00.000Z",
    ),
    (
        "server.pem\"\nkey = \"file:server",
        "client.pem\"\nkey = \"file:client",
        "certbind.toml:7:1: listen.mtls.cert: the certificate is not for servers: its extended key usage lacks serverAuth (RFC 5280 §4.2.1.12)",
    ),
    (
        "server.pem\"\nkey = \"file:server",
        "future.pem\"\nkey = \"file:future",
        "certbind.toml:7:1: listen.mtls.cert: the certificate is good from 2026-11-23T00:00:00.000Z on, not yet",
    ),
    (
        "file:server.key",
        "file:open.key",
        "certbind.toml:8:1: listen.mtls.key: open.key is for a private key and has the mode 0644, so that others can read or change it; `chmod 0640` or narrower",
    ),
    (
        "file:server.key",
        "file:other.key",
        "certbind.toml:8:1: listen.mtls.key: is not the private key of the (first) certificate in `listen.mtls.cert`",
    ),
    (
        "file:server.key",
        "file:text.key",
        "certbind.toml:8:1: listen.mtls.key: holds no private key that can be used; PEM with an RSA (2048 bits or more), EC or Ed25519 key is wanted, not encrypted",
    ),
    (
        "file:server.key",
        "env:NO_SUCH_VARIABLE",
        "certbind.toml:8:1: listen.mtls.key: env:NO_SUCH_VARIABLE does not exist",
    ),
    (
        "file:server.key",
        "cred:tls.key",
        "certbind.toml:8:1: listen.mtls.key: there are no credentials: CREDENTIALS_DIRECTORY is not set, as it is in a systemd unit with LoadCredential=",
    ),
    ("file:ca.pem", "file:gone.pem", "certbind.toml:12:1: trust.0.ca: gone.pem does not exist"),
    ("file:ca.pem", "file:empty", "certbind.toml:12:1: trust.0.ca: empty is empty"),
    (
        "file:ca.pem",
        "file:text",
        "certbind.toml:12:1: trust.0.ca: holds no certificate that can be read; PEM with BEGIN CERTIFICATE is wanted",
    ),
    (
        "file:ca.pem",
        "file:garbage",
        "certbind.toml:12:1: trust.0.ca: holds a certificate that is not read: not strict DER",
    ),
    ("file:ca.pem", "file:clients.d", "certbind.toml:12:1: trust.0.ca: clients.d is not a file"),
    (
        "file:ca.pem",
        "file:server.pem",
        "certbind.toml:12:1: trust.0.ca: holds a certificate that is not a CA's (RFC 5280 §4.2.1.9): CN=localhost,O=certbind dev",
    ),
    ("file:corp.crl", "file:gone.crl", "certbind.toml:13:1: trust.0.crl: gone.crl does not exist"),
    ("file:corp.crl", "file:empty", "certbind.toml:13:1: trust.0.crl: empty is empty"),
    (
        "file:corp.crl",
        "file:garbage",
        "certbind.toml:13:1: trust.0.crl: file:garbage holds no revocation list that can be read; PEM with BEGIN X509 CRL, or DER, is wanted",
    ),
    ("file:corp.crl", "file:clients.d", "certbind.toml:13:1: trust.0.crl: clients.d is not a file"),
    (
        "[log]",
        "[clients]\ndir = \"gone.d\"\n[log]",
        "certbind.toml:19:1: clients.dir: gone.d is not a folder that can be read",
    ),
    ("\"data\"", "\"gone/data\"", "certbind.toml:2:1: data_dir: gone is not a folder that can be read"),
    (
        "\"data\"",
        "\"open.d\"",
        "certbind.toml:2:1: data_dir: open.d has the mode 0777, so that others can change what is in it; `chmod 0700`",
    ),
    ("\"data\"", "\"ca.pem\"", "certbind.toml:2:1: data_dir: ca.pem is not a folder that can be read"),
    (
        "level = \"info\"",
        "audit = \"syslog\"",
        "certbind.toml:19:1: log.audit: \"syslog\" is no place for audit events; write \"log\" or \"file:/var/log/certbind/audit.jsonl\"",
    ),
    (
        "level = \"info\"",
        "audit = \"file:gone/a\"",
        "certbind.toml:19:1: log.audit: gone is not a folder that can be read",
    ),
    // Plain HTTP beyond this machine.
    (
        "[log]",
        "[listen.ops]\naddress = \"0.0.0.0:9464\"\n[log]",
        "certbind.toml:19:1: listen.ops.address: 0.0.0.0:9464 can be reached from other machines, and this listener speaks plain HTTP; use a loopback address, or say `allow_non_loopback = true` if the network is guarded otherwise",
    ),
    // Keys that do not go together.
    (
        "[log]",
        "[listen.ops]\naddress = \"127.0.0.1:8443\"\n[log]",
        "certbind.toml:19:1: listen.ops.address: `listen.mtls.address` waits at this address already",
    ),
    (
        "[log]",
        "[[trust]]\nname = \"corp\"\nca = \"file:ca.pem\"\n[log]",
        "certbind.toml:19:1: trust.1.name: \"corp\" stands at `trust.0.name` already",
    ),
    (
        "[log]",
        "[[resource]]\nidentifier = \"https://a\"\n[[resource]]\nidentifier = \"https://a\"\n[log]",
        "certbind.toml:21:1: resource.1.identifier: \"https://a\" stands at `resource.0.identifier` already; different resources have different identifiers (RFC 9068 §5)",
    ),
    (
        "[log]",
        "[[resource]]\nidentifier = \"payments\"\n[log]",
        "certbind.toml:19:1: resource.0.identifier: a resource indicator is an absolute URI (RFC 8707 §2)",
    ),
    (
        "[log]",
        "[[resource]]\nidentifier = \"https://a\"\nscope = \"a  b\"\n[log]",
        "certbind.toml:20:1: resource.0.scope: scope tokens are separated by exactly one space (RFC 6749 §3.3)",
    ),
    // What a later version brings is refused by name.
    (
        "[log]",
        "[storage]\nengine = \"postgres\"\nurl = \"file:server.key\"\n[log]",
        "certbind.toml: keys.encryption_key: is missing; in a database, and in its backups, private signing keys lie sealed: make a key with `openssl rand -base64 32`",
    ),
    (
        "[log]",
        "[storage]\nengine = \"mysql\"\n[log]",
        "certbind.toml:19:1: storage.engine: \"mysql\" is none of sqlite, postgres",
    ),
    (
        "[log]",
        "[storage]\nca = \"file:x\"\n[log]",
        "certbind.toml:19:1: storage.ca: says nothing without storage.engine = \"postgres\"; set that, or take this out",
    ),
    (
        "[log]",
        "[storage]\nurl = \"file:x\"\n[log]",
        "certbind.toml:19:1: storage.url: says nothing without storage.engine = \"postgres\"; set that, or take this out",
    ),
    (
        "[log]",
        "[keys]\nsource = \"pkcs11:token=x;object=y?module-path=/m.so&pin-value=1234\"\n[log]",
        "certbind.toml:19:1: keys.source: holds the PIN itself; write `pin-source=file:…` (or `env:`, `cred:`) in place of `pin-value`",
    ),
    (
        "[log]",
        "[keys]\nsource = \"pkcs11:token=x;object=y?module-path=/m.so&pin-source=file:gone\"\n[log]",
        "certbind.toml:19:1: keys.source: gone does not exist",
    ),
    (
        "[log]",
        "[keys]\nsource = \"pkcs11:token=x;object=y?module-path=/m.so&pin-source=file:open.seal\"\n[log]",
        "certbind.toml:19:1: keys.source: open.seal is for a private key and has the mode 0644, so that others can read or change it; `chmod 0640` or narrower",
    ),
    (
        "[log]",
        "[keys]\nsource = \"pkcs11:token=x;object=y?module-path=/m.so&pin-source=file:two.key\"\n[log]",
        "certbind.toml:19:1: keys.source: holds no PIN: one line of text is wanted",
    ),
    (
        "[log]",
        "[keys]\nsource = \"vault\"\n[log]",
        "certbind.toml:19:1: keys.source: \"vault\" is neither \"auto\" nor a `pkcs11:` URI",
    ),
    (
        "[log]",
        "[keys]\nrotate_every = \"1s\"\n[log]",
        "certbind.toml:19:1: keys.rotate_every: \"1s\" is out of bounds; from 2s to 3650d is allowed",
    ),
    (
        "[log]",
        "[keys]\nrotate_every = \"never\"\n[log]",
        "certbind.toml:19:1: keys.rotate_every: \"never\" is not a duration; write a number and ms, s, m, h or d, as in \"5m\"",
    ),
    (
        "[log]",
        "[keys]\npublish_before = \"off\"\n[log]",
        "certbind.toml:19:1: keys.publish_before: \"off\" is not a duration; write a number and ms, s, m, h or d, as in \"5m\"",
    ),
    (
        "[log]",
        "[keys]\nencryption_key = \"file:text.key\"\n[log]",
        "certbind.toml:19:1: keys.encryption_key: holds no encryption key; 32 random bytes in base64 or hexadecimal are wanted, as `openssl rand -base64 32` prints them",
    ),
    (
        "[log]",
        "[keys]\nencryption_key = \"env:NOWHERE\"\n[log]",
        "certbind.toml:19:1: keys.encryption_key: env:NOWHERE does not exist",
    ),
    (
        "[log]",
        "[keys]\nencryption_key = \"file:open.seal\"\n[log]",
        "certbind.toml:19:1: keys.encryption_key: open.seal is for a private key and has the mode 0644, so that others can read or change it; `chmod 0640` or narrower",
    ),
    (
        "[log]",
        "[keys]\nencryption_key = \"Bw8XHycvNz9HT1dfZ293f4ePl5+nr7e/x8/X3+fv9/8=\"\n[log]",
        "certbind.toml:19:1: keys.encryption_key: is not a reference; write `file:`, `env:` or `cred:` before it, as in \"file:/etc/certbind/tls/server.pem\"",
    ),
    (
        "[log]",
        "[keys]\nencryption_key = \"file:seal.key\"\nprevious_encryption_key = \"file:gone\"\n[log]",
        "certbind.toml:20:1: keys.previous_encryption_key: gone does not exist",
    ),
    (
        "[log]",
        "[keys]\nprevious_encryption_key = \"file:seal.key\"\n[log]",
        "certbind.toml:19:1: keys.previous_encryption_key: stands without `keys.encryption_key`; what is sealed would be sealed under no key",
    ),
    (
        "[log]",
        "[keys]\nrotate_every = \"23h\"\n[log]",
        "certbind.toml:19:1: keys.rotate_every: 23h is shorter than the 1d for which a key is published before it signs (`keys.publish_before`)",
    ),
    (
        "lifetime = \"5m\"\n",
        "lifetime = \"24h\"\n[keys]\nrotate_every = \"90m\"\npublish_before = \"1h\"\n",
        "certbind.toml:18:1: keys.rotate_every: 90m is so short that too many keys are published at once, as each stays until its tokens of 1d have expired",
    ),
    (
        "level = \"info\"",
        "audit_required = true",
        "certbind.toml:19:1: log.audit_required: needs a file or the store: nothing says that a line on standard error is kept; write log.audit = \"file:PATH\" or log.audit_store = true",
    ),
    (
        "file:server.key",
        "pkcs11:token=x",
        "certbind.toml:8:1: listen.mtls.key: names a key in a PKCS#11 token, which comes with a later version; use `file:`, `env:` or `cred:`",
    ),
];

#[test]
fn fault_26_each_wrong_file_is_refused_with_line_and_reason() {
    let folder = Folder::new();
    assert_eq!(folder.complaints(GOOD), Vec::<String>::new());
    let mut wrong = Vec::new();
    for (from, to, complaint) in WRONG {
        assert!(GOOD.contains(from), "{from:?} is nothing to spoil");
        let complaints = folder.complaints(&GOOD.replacen(from, to, 1));
        if complaints != [*complaint] {
            wrong.push(format!("{to:?}\n  expected {complaint}\n  got      {}", complaints.join("\n           ")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
