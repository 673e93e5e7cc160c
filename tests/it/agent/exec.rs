//! `certbind exec`: what a program gets, what it ends with, and what becomes of its token meanwhile.

use std::fs;
use std::process::Command;

use super::rig::{Running, SHORT, World, bound_to, content, mode, renewed, thumbprint, until};
use crate::process::rig::{PKI, output};

#[tokio::test(flavor = "multi_thread")]
async fn rfc8705_3_a_program_begins_with_a_bound_token_and_its_end_is_ours() {
    let world = World::start();
    let run = |more: &[&str]| output(&mut world.certbind("exec", more));
    let (token, stderr, status) = run(&["--", "sh", "-c", "printf %s \"$CERTBIND_TOKEN\""]);
    assert!(status.success(), "{stderr}");
    assert_eq!(bound_to(&token), thumbprint(&PKI.billing.identity));
    let (token, ..) = run(&["--env", "TOKEN", "--scope", "payments:read", "--", "sh", "-c", "printf %s \"$TOKEN\""]);
    assert_eq!(bound_to(&token), thumbprint(&PKI.billing.identity));

    let mut inherited = world.certbind("exec", &["--file", "token", "--", "sh", "-c", "printf %s \"$CERTBIND_TOKEN\""]);
    assert_eq!(output(inherited.env("CERTBIND_TOKEN", "of-another")).0, "");
    let (seen, ..) =
        run(&["--file", "token", "--", "sh", "-c", "env; cat \"$CERTBIND_TOKEN_FILE\"; stat -c ' %a' token"]);
    assert!(!seen.contains("CERTBIND_TOKEN="), "a file stands in for the variable: {seen}");
    assert!(seen.trim_end().ends_with(" 600"), "{seen}");
    assert!(!world.path("token").exists(), "the file goes with the program");

    for (command, code) in [
        (&["true"][..], 0),
        (&["sh", "-c", "exit 42"], 42),
        (&["sh", "-c", "kill -TERM $$"], 143),
        (&["sh", "-c", "kill -KILL $$"], 137),
        (&["/nowhere/program"], 127),
        (&["/etc/passwd"], 126),
    ] {
        let (_, stderr, status) = run(&[&["--"], command].concat());
        assert_eq!(status.code(), Some(code), "{command:?}: {stderr}");
    }
    assert_eq!(run(&["--env", "A-B", "--", "true"]).2.code(), Some(2));
    assert_eq!(run(&[]).2.code(), Some(2));
}

#[test]
fn without_a_first_token_the_program_is_not_started() {
    let mut world = World::start();
    let program = ["--", "touch", "started"];
    let exec = |world: &World, change: &dyn Fn(&mut Command)| {
        let mut command = world.certbind("exec", &[]);
        change(&mut command);
        let (_, stderr, status) = output(command.args(program));
        assert!(!world.path("started").exists(), "{stderr}");
        (status.code().unwrap(), stderr)
    };
    let (code, stderr) = exec(&world, &|command| {
        command.args(["--scope", "admin"]);
    });
    assert_eq!(code, 3, "{stderr}");
    assert!(stderr.contains("invalid_scope") && stderr.contains("request_id"), "{stderr}");
    let assertion = world.path("clients/batch.assertion.key");
    let without_certificate = output(
        crate::process::rig::certbind()
            .args(["exec", "--issuer", "https://localhost:1", "--client-id", "batch", "--assertion-key"])
            .arg(assertion)
            .args(program),
    );
    assert_eq!(without_certificate.2.code(), Some(2), "never an unbound token: {}", without_certificate.1);
    world.rotate(&PKI.thief.identity);
    assert_eq!(exec(&world, &|_| {}).0, 3);
    fs::remove_file(world.path("tls/tls.key")).unwrap();
    assert_eq!(exec(&world, &|_| {}).0, 1, "a certificate that is not there");
    world.rotate(&PKI.billing.identity);
    let _start = world.stop_server();
    assert_eq!(exec(&world, &|_| {}).0, 5);
}

#[test]
fn half_of_a_pair_is_waited_out() {
    let mut world = World::start();
    let renewed = renewed();
    let key = fs::read(world.path("tls/tls.key")).unwrap();
    world.rotate(&renewed);
    let path = world.path("tls/..data/tls.key");
    fs::write(&path, key).unwrap();
    let mut running =
        Running::start(&world, &mut world.certbind("exec", &["--file", "token", "--", "sh", "-c", "cat token > seen"]));
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(!world.path("seen").exists(), "the key is of another certificate");
    fs::write(&path, renewed.key_pem()).unwrap();
    assert!(running.ended().success(), "{}", running.stderr());
    assert_eq!(bound_to(&content(&world.path("seen")).unwrap()), thumbprint(&renewed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_renewed_under_a_program_that_reads_it() {
    let world = World::start_with(SHORT);
    // Every token that it sees, once, and every look at which there was half a token or none.
    let script = "import os, time\nseen, bad = [], 0\nwhile not os.path.exists('stop'):\n \
                  try: token = open(os.environ['CERTBIND_TOKEN_FILE']).read()\n \
                  except FileNotFoundError: token = ''\n \
                  if token.count('.') != 2: bad += 1\n \
                  elif token not in seen:\n  seen.append(token); open('seen', 'w').write('\\n'.join(seen))\n \
                  time.sleep(0.002)\nprint(bad)\nopen('bad', 'w').write(str(bad))\n";
    let hook = "env > hook~ && echo \"$0 $@\" >> hook~ && cat token >> hook~ && mv hook~ hook";
    let arguments = ["--file", "token", "--on-renew", hook, "--", "python3", "-c", script];
    let mut running = Running::start(&world, &mut world.certbind("exec", &arguments));
    let seen = until("a second token", || {
        let seen = content(&world.path("seen"))?;
        (seen.lines().count() == 2).then_some(seen)
    });
    let told = until("the command", || content(&world.path("hook")));
    let second = seen.lines().nth(1).unwrap();
    assert_eq!(told.matches(second).count(), 1, "the new file is in place, and the token is nowhere else: {told}");
    assert!(!told.contains(seen.lines().next().unwrap()), "{told}");
    assert_eq!(mode(&world.path("token")), 0o600);
    fs::write(world.path("stop"), "").unwrap();
    assert!(running.ended().success(), "{}", running.stderr());
    assert_eq!(content(&world.path("bad")).unwrap(), "0");
    assert!(!running.stderr().contains(second), "no token is logged");
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc8705_6_3_a_renewed_certificate_brings_its_own_token() {
    let mut world = World::start();
    let arguments = [
        "--file",
        "token",
        "--on-renew",
        "USR1",
        "--",
        "sh",
        "-c",
        "trap 'touch told' USR1; while :; do sleep 0.05; done",
    ];
    let running = Running::start(&world, &mut world.certbind("exec", &arguments));
    let token = world.path("token");
    until("the first token", || content(&token));
    let identity = renewed();
    world.rotate(&identity);
    until("its token", || (bound_to(&content(&token)?) == thumbprint(&identity)).then_some(()));
    until("the signal", || world.path("told").exists().then_some(()));
    // A certificate that disappears changes nothing.
    fs::remove_file(world.path("tls/..data")).unwrap();
    until("a word of it", || running.stderr().contains("give no credential").then_some(()));
    assert_eq!(bound_to(&content(&token).unwrap()), thumbprint(&identity));
    assert!(
        world.site.audit().iter().all(|event| event["event"] != "token.issued" || event["cnf_x5t_s256"].is_string())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_over_goes_and_the_program_stays() {
    let mut world = World::start_with(SHORT);
    let arguments = ["--file", "token", "--", "sh", "-c", "while :; do sleep 0.05; done"];
    let mut running = Running::start(&world, &mut world.certbind("exec", &arguments));
    let token = world.path("token");
    let first = until("the first token", || content(&token));
    let start = world.stop_server();
    until("its end", || (!token.exists()).then_some(()));
    assert!(running.stderr().contains("could not be reached"), "{}", running.stderr());
    start(&mut world);
    let second = until("the next", || content(&token));
    assert_ne!(first, second);
    running.signal("TERM");
    assert_eq!(running.ended().code(), Some(143));
    assert!(!token.exists());
}

#[test]
fn signals_reach_the_program_and_no_one_else() {
    let world = World::start();
    let script = "for s in HUP INT QUIT USR1 USR2; do trap \"echo $s >> heard\" $s; done; trap 'exit 7' TERM; touch ready; \
                  while :; do sleep 0.02; done";
    let mut running = Running::start(&world, &mut world.certbind("exec", &["--", "sh", "-c", script]));
    until("the program", || world.path("ready").exists().then_some(()));
    // What whoever runs the tests ignores (nohup, a shell's background) the program ignores too.
    let ignored = ignored_by(&fs::read_to_string("/proc/self/status").unwrap());
    for (name, number) in [("HUP", 1), ("USR1", 10), ("USR2", 12), ("INT", 2), ("QUIT", 3)] {
        if ignored & (1 << (number - 1)) != 0 {
            continue;
        }
        running.signal(name);
        until(name, || content(&world.path("heard")).filter(|heard| heard.contains(name)));
    }
    running.signal("TERM");
    assert_eq!(running.ended().code(), Some(7), "{}", running.stderr());
}

/// The signals that a process ignores, of which the system tells this.
fn ignored_by(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap()
}

#[test]
fn what_nohup_ignores_the_program_ignores() {
    let world = World::start();
    let exec = world.certbind("exec", &["--", "grep", "SigIgn", "/proc/self/status"]);
    let ignored = |before: &str| {
        // Whatever whoever runs the tests ignores.
        let script = format!(
            "import os, signal, sys\nsignal.signal(signal.SIGHUP, signal.{before})\nos.execv(sys.argv[1], sys.argv[1:])"
        );
        let mut command = Command::new("python3");
        command.args(["-c", &script]).arg(exec.get_program()).args(exec.get_args());
        let (stdout, stderr, _) = output(command.current_dir(world.site.dir()));
        assert!(!stdout.is_empty(), "{stderr}");
        ignored_by(&stdout)
    };
    let (plain, nohup) = (ignored("SIG_DFL"), ignored("SIG_IGN"));
    assert_eq!((plain & 1, nohup), (0, plain | 1));
}

#[test]
fn what_a_terminal_sends_to_all_its_processes_is_not_sent_again() {
    let world = World::start();
    // It leaves the group that the terminal speaks to: an interrupt that it hears was passed on.
    let program = "import os, signal\nos.setpgrp()\n\
                   signal.signal(signal.SIGINT, lambda *_: print('INT', file=open('heard', 'a')))\n\
                   open('ready', 'w')\nwhile True: signal.pause()";
    let exec = world.certbind("exec", &["--", "python3", "-c", program]);
    let script = "import os, pty, signal, sys, time\n\
                  def heard(): return os.path.exists('heard')\n\
                  child, terminal = pty.fork()\n\
                  if child == 0: os.execv(sys.argv[1], sys.argv[1:])\n\
                  while not os.path.exists('ready'): time.sleep(0.01)\n\
                  os.write(terminal, b'\\x03'); time.sleep(0.3); print(heard())\n\
                  os.kill(child, signal.SIGUSR1)\n\
                  print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))";
    let mut python = Command::new("python3");
    python.args(["-c", script]).arg(exec.get_program()).args(exec.get_args()).current_dir(world.site.dir());
    let (stdout, stderr, _) = output(&mut python);
    assert_eq!(stdout.lines().collect::<Vec<_>>(), ["False", "138"], "{stderr}");
}
