//! The folder with token, certificate and key: programs in Python and Node use it while the certificate is renewed.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::rig::{Running, SHORT, World, bound_to, content, mode, renewed, thumbprint, until};
use crate::foreign::rig::{program, scripts};
use crate::house;
use crate::support::finish::Finish as _;

const ROTATIONS: usize = 5;

/// Looks once, opens three files, and holds them against each other; says how often it did.
const READER: &str = "import base64, hashlib, json, os, ssl
looks = 0
while not os.path.exists('stop'):
    look = os.path.join('kept', os.readlink('kept/..data'))
    token, chain = (open(os.path.join(look, name)).read() for name in ('token', 'tls.crt'))
    claims = token.split('.')[1]
    claims = json.loads(base64.urlsafe_b64decode(claims + '=' * (-len(claims) % 4)))
    leaf = ssl.PEM_cert_to_DER_cert(chain.split('-----END')[0] + '-----END CERTIFICATE-----')
    mine = base64.urlsafe_b64encode(hashlib.sha256(leaf).digest()).decode().rstrip('=')
    assert claims['cnf']['x5t#S256'] == mine, 'mixed'
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(os.path.join(look, 'tls.crt'), os.path.join(look, 'tls.key'))
    looks += 1
    if looks == 300: open('enough', 'w').close()
print(looks)
";

fn started(command: &mut Command, world: &World) -> Child {
    command
        .current_dir(world.site.dir())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// How often a program did what it does, without a failure.
fn count(child: Child) -> u32 {
    let output = child.finish();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

#[test]
fn rfc8705_6_3_no_look_at_the_folder_mixes_a_token_with_another_certificate() {
    let mut world = World::start();
    fs::create_dir_all(world.path("kept/..certbind_2020_01_01_00_00_00.x")).unwrap();
    fs::set_permissions(world.path("kept"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let arguments = ["--dir", "kept", "--on-renew", "echo renewed >> told"];
    let mut agent = Running::start(&world, &mut world.certbind("agent", &arguments));
    let token = world.path("kept/token");
    until("the token", || content(&token));
    assert!(!world.path("kept/..certbind_2020_01_01_00_00_00.x").exists(), "what was left is removed at the start");
    let reader = started(Command::new("python3").args(["-c", READER]), &world);
    let folder = scripts();
    let caller = |script: &str| {
        let mut command = program(&folder.path().join(script));
        command.env("TOKEN_DIR", world.path("kept")).env("CERTBIND_CA", world.path("ca.pem"));
        command.env("API", world.dev["api"].as_str().unwrap());
        started(&mut command, &world)
    };
    let callers = [caller("agent.py"), caller("agent.mjs")];
    for _ in 0..ROTATIONS {
        let identity = renewed();
        world.rotate(&identity);
        until("its token", || (bound_to(&content(&token)?) == thumbprint(&identity)).then_some(()));
    }
    for name in ["token", "tls.crt", "tls.key"] {
        let link = world.path("kept").join(name);
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("..data").join(name));
        assert_eq!(mode(&fs::canonicalize(link).unwrap()), 0o600);
    }
    assert_eq!(mode(&fs::canonicalize(world.path("kept/..data")).unwrap()), 0o700);
    until("a word of each", || (content(&world.path("told"))?.lines().count() > ROTATIONS).then_some(()));
    until("hundreds of looks", || world.path("enough").exists().then_some(()));
    fs::write(world.path("stop"), "").unwrap();
    let looks = count(reader);
    eprintln!("{looks} looks, {ROTATIONS} rotations");
    for caller in callers {
        let calls = count(caller);
        eprintln!("{calls} calls");
        assert!(calls > ROTATIONS as u32);
    }
    world.has_issued(1 + ROTATIONS);
    agent.signal("TERM");
    assert!(agent.ended().success(), "{}", agent.stderr());
    assert_eq!(fs::read_dir(world.path("kept")).unwrap().count(), 0, "nothing stays behind");
}

#[test]
fn a_folder_that_others_may_write_into_or_that_is_in_use_is_not_taken() {
    let world = World::start();
    let agent = |more: &[&str]| crate::process::rig::output(&mut world.certbind("agent", more));
    fs::create_dir(world.path("open")).unwrap();
    fs::set_permissions(world.path("open"), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    fs::create_dir(world.path("used")).unwrap();
    fs::write(world.path("used/tls.key"), "precious").unwrap();
    for (more, code, word) in [
        (&["--dir", "open"][..], 1, "others may write"),
        (&["--dir", "used"], 1, "not made by this program"),
        (&["--dir", "tls"], 1, "lies in it"),
        (&["--file", "tls/..data/tls.key"], 1, "credential is read from"),
        (&["--file", "used/tls.key"], 1, "no token of ours"),
        (&["--file", "used"], 1, "something other than a file"),
        (&[], 2, "give --socket"),
        (&["--file", "token", "--on-renew", "HUP"], 2, "a signal to which program"),
        (&["--socket", "open/agent.sock"], 1, "others may write"),
    ] {
        let (_, stderr, status) = agent(more);
        assert_eq!(status.code(), Some(code), "{more:?}: {stderr}");
        assert!(stderr.contains(word), "{more:?}: {stderr}");
    }
    assert_eq!(fs::read_to_string(world.path("used/tls.key")).unwrap(), "precious");
    assert!(content(&world.path("tls/tls.key")).unwrap().contains("PRIVATE KEY"));
}

#[test]
fn each_place_is_one_agents_and_is_emptied_and_filled_whatever_the_other_does() {
    let mut world = World::start_with(SHORT);
    let arguments = ["--socket", "agent.sock", "--file", "token", "--dir", "kept"];
    let mut agent = Running::start(&world, &mut world.certbind("agent", &arguments));
    let (file, kept, moved) = (world.path("token"), world.path("kept"), world.path("moved"));
    let in_folder = kept.join("token");
    let filled = |file: &Path| until("a token", || content(file));
    filled(&file);
    filled(&in_folder);
    for more in [&arguments[..], &arguments[2..4], &arguments[4..]] {
        let (_, stderr, status) = crate::process::rig::output(&mut world.certbind("agent", more));
        assert_eq!(status.code(), Some(1), "{more:?}: {stderr}");
        assert!(stderr.contains("another certbind keeps tokens there"), "{more:?}: {stderr}");
    }
    assert!(file.exists() && in_folder.exists() && world.path("agent.sock").exists());

    fs::remove_file(&file).unwrap();
    fs::remove_dir_all(&kept).unwrap();
    filled(&file);
    filled(&in_folder);

    // From here on the folder cannot be written, and another one is not touched in its stead.
    fs::rename(&kept, &moved).unwrap();
    fs::create_dir(&kept).unwrap();
    fs::write(&in_folder, "precious").unwrap();
    for _ in 0..2 {
        let start = world.stop_server();
        until("the end of the file", || (!file.exists()).then_some(()));
        until("the end of the folder", || (fs::read_dir(&moved).unwrap().count() == 0).then_some(()));
        start(&mut world);
        filled(&file);
    }
    assert_eq!(fs::read_to_string(&in_folder).unwrap(), "precious");
    assert!(agent.stderr().contains("another folder has taken the place of ours"), "{}", agent.stderr());
    fs::remove_dir_all(&kept).unwrap();
    fs::rename(&moved, &kept).unwrap_or_else(|_| drop(fs::remove_dir_all(&moved)));
    filled(&in_folder);
    agent.signal("TERM");
    assert!(agent.ended().success(), "{}", agent.stderr());
    assert!(!file.exists() && !world.path(".token.lock").exists());
    assert_eq!(fs::read_dir(&kept).unwrap().count(), 0);
}

#[test]
fn the_page_shows_the_program_that_was_tried() {
    let shown = house::blocks(super::page::PAGE).into_iter().find(|block| block.language == "python").unwrap().text;
    assert!(house::read("tests/foreign/agent.py").contains(&shown));
}
