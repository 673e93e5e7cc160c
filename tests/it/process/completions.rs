//! `certbind completions`: a real bash completes with what it is given.

use std::process::{Command, Stdio};

use super::rig::{certbind, output};

const SHELLS: [&str; 5] = ["bash", "elvish", "fish", "powershell", "zsh"];

fn script(shell: &str) -> String {
    let (script, stderr, status) = output(certbind().args(["completions", shell]));
    assert!(status.success() && stderr.is_empty(), "{shell}: {stderr}");
    script
}

/// What bash offers after these words, of which the last is not finished.
fn offered(words: &[&str]) -> Vec<String> {
    let ask = r#"
        source <("$0" completions bash) || exit 9
        complete -p certbind | grep -q -- "-F _certbind" || exit 8
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        _certbind certbind "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let mut bash = Command::new("bash");
    bash.args(["--norc", "--noprofile", "-c", ask, env!("CARGO_BIN_EXE_certbind")]).args(words);
    let (stdout, stderr, status) = output(&mut bash);
    assert!(status.success(), "{status}: {stderr}");
    stdout.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_flags_and_values() {
    for (words, expected) in [
        (&["certbind", "comp"][..], &["completions"][..]),
        (&["certbind", "audit", ""], &["help", "search", "tail", "verify"]),
        (&["certbind", "audit", "search", "--th"], &["--thumbprint"]),
        (&["certbind", "audit", "search", "--outcome", ""], &["failure", "success"]),
        (&["certbind", "completions", "z"], &["zsh"]),
    ] {
        let mut offered = offered(words);
        offered.retain(|word| !word.starts_with('-') || expected.iter().any(|expected| expected.starts_with('-')));
        offered.sort_unstable();
        assert_eq!(offered, expected, "{words:?}");
    }
}

#[test]
fn every_shell_gets_every_command_in_a_script_that_it_can_read() {
    let (help, _, _) = output(certbind().arg("--help"));
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands: Vec<_> = commands
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !name.is_empty())
        .collect();
    assert!(commands.len() > 15, "{help}");
    for shell in SHELLS {
        let script = script(shell);
        for command in &commands {
            assert!(script.contains(command), "{shell}: {command}");
        }
        // Where the shell is there, it says itself whether it can read that.
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), &script).unwrap();
        if let Ok(status) = Command::new(shell).arg("-n").arg(path.path()).stdin(Stdio::null()).status() {
            assert!(status.success(), "{shell} reads it");
        }
    }
}

#[test]
fn a_reader_that_goes_away_and_a_shell_that_is_unknown_are_no_crash() {
    let mut bash = Command::new("bash");
    let (stdout, stderr, _) =
        output(bash.args(["-c", "\"$0\" completions bash | head -n 1", env!("CARGO_BIN_EXE_certbind")]));
    assert!(stdout.starts_with("_certbind") && stderr.is_empty(), "{stdout}{stderr}");
    let (_, stderr, status) = output(certbind().args(["completions", "tcsh"]));
    assert_eq!(status.code(), Some(2), "{stderr}");
}
