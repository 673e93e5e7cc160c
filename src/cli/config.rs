//! `config check`, `config show` and `config schema`: the configuration as `serve` sees it, without starting anything.

use std::io::{self, Write};
use std::path::PathBuf;

use certbind_proto::time::Timestamp;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::{Exit, clients, storage, trust_files};
use crate::config::{
    self, Config, Environment, Files, Opened, ProxyFiles, ProxyListener, Rejected, Remark, Sources, Warning,
};
use crate::net;

/// Where the configuration is when nobody says where.
pub const DEFAULT_FILE: &str = "/etc/certbind/certbind.toml";

/// Where the configuration comes from; the same for `config` and `serve`.
#[derive(Args, Clone, Debug)]
pub struct SourceArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    pub config: PathBuf,
    /// Set one key, over file and environment: --set listen.mtls.address=127.0.0.1:8443
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

impl SourceArgs {
    /// These, with the environment.
    #[must_use]
    pub fn sources(&self, environment: Environment) -> Sources {
        Sources { file: self.config.clone(), environment, set: self.set.clone() }
    }
}

/// `certbind config …`
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say everything that is wrong, with file, line, key and what was meant
    Check(ConfigArgs),
    /// Print a JSON Schema of the file, for editors
    Schema,
    /// Print every value that holds and where it comes from; secrets stay where they are
    Show(ConfigArgs),
}

/// The arguments of `config check` and `config show`.
#[derive(Args, Clone, Debug)]
pub struct ConfigArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub sources: SourceArgs,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Plain)]
    pub output: Output,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For machines
    Json,
    /// A line for each thing; `config show` prints TOML
    Plain,
    /// In columns, where there are any
    Table,
}

/// Runs one of them. Data go to `out`, talk goes to `err`; what comes back is the exit code.
///
/// # Errors
/// When nothing can be written.
pub fn run(
    command: &ConfigCommand,
    environment: Environment,
    now: Timestamp,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    match command {
        ConfigCommand::Check(args) => check(args, environment, now, out),
        ConfigCommand::Schema => writeln!(out, "{:#}", config::schema(&config::keys::SERVER)).map(|()| Exit::Done),
        ConfigCommand::Show(args) => show(args, environment, out, err),
    }
}

/// `config check`: what `serve` would say, files included. The complaints are what was asked for, so they go to `out`.
///
/// # Errors
/// When nothing can be written.
pub fn check(args: &ConfigArgs, environment: Environment, now: Timestamp, out: &mut dyn Write) -> io::Result<Exit> {
    let sources = args.sources.sources(environment);
    let (complaints, warnings, beyond) = match config::open(&sources, now) {
        Ok(Opened { checked, files, .. }) => {
            let beyond = beyond_the_file(&checked.config, files, &sources.environment, now);
            (Vec::new(), checked.warnings, beyond)
        }
        Err(Rejected { complaints, warnings }) => (complaints, warnings, Vec::new()),
    };
    let is_valid = complaints.is_empty() && beyond.is_empty();
    if args.output == Output::Json {
        let json = json!({
            "valid": is_valid,
            "complaints": all_json(&complaints),
            "beyond_the_file": beyond,
            "warnings": all_json(&warnings),
        });
        writeln!(out, "{json:#}")?;
    } else {
        for complaint in &complaints {
            writeln!(out, "{complaint}")?;
        }
        write_warnings(&warnings, out)?;
        for problem in &beyond {
            writeln!(out, "{problem}")?;
        }
        let file = sources.file.display();
        match complaints.len() + beyond.len() {
            0 => writeln!(out, "{file}: valid")?,
            1 => writeln!(out, "{file}: 1 mistake; certbind would not start")?,
            count => writeln!(out, "{file}: {count} mistakes; certbind would not start")?,
        }
    }
    Ok(if is_valid { Exit::Done } else { Exit::Invalid })
}

/// What `serve` would refuse to start with besides the configuration itself: anchors and lists that must not be used,
/// clients that cannot be registered.
fn beyond_the_file(config: &Config, files: Files, environment: &Environment, now: Timestamp) -> Vec<String> {
    let trust = trust_files::load(config, files.trust, environment, now).err();
    let of_admin = files.admin.map(|admin| admin.trust);
    let administrators = trust_files::of_administrators(config, of_admin, environment, now).err();
    let clients = clients::load(config).err();
    let database = files.database.and_then(|files| storage::target(&files).err());
    let proxies = match (config.proxy.as_ref().map(|proxy| &proxy.listen), files.proxy) {
        (Some(ProxyListener::Tls(own)), Some(ProxyFiles::Tls(files))) => {
            trust_files::of_proxies(trust_files::PROXIES, &own.trust, files.trust, environment, now).err()
        }
        _ => None,
    };
    let sockets = config.sockets().filter_map(|(key, path)| Some((key, net::check_unix(path).err()?)));
    let sockets = sockets.map(|(key, fault)| anyhow::anyhow!("{key}: {fault}"));
    let administrators = administrators.into_iter().chain(proxies).chain(sockets);
    trust.into_iter().chain(administrators).chain(clients).chain(database).map(|error| format!("{error:#}")).collect()
}

/// `config show`: every value that holds, as a file that says the same.
///
/// # Errors
/// When nothing can be written.
pub fn show(args: &ConfigArgs, environment: Environment, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<Exit> {
    match config::inspect(&args.sources.sources(environment)) {
        Err(rejected) => refuse(&rejected, err),
        Ok(checked) => {
            write_warnings(&checked.warnings, err)?;
            match args.output {
                Output::Json => writeln!(out, "{:#}", checked.effective.to_json())?,
                Output::Plain | Output::Table => write!(out, "{}", checked.effective)?,
            }
            Ok(Exit::Done)
        }
    }
}

/// What any command says that was to start with an invalid configuration, and its exit code.
///
/// # Errors
/// When nothing can be written.
pub fn refuse(rejected: &Rejected, err: &mut dyn Write) -> io::Result<Exit> {
    writeln!(err, "{rejected}")?;
    write_warnings(&rejected.warnings, err)?;
    Ok(Exit::Invalid)
}

/// A line for each warning.
///
/// # Errors
/// When nothing can be written.
pub fn write_warnings(warnings: &[Warning], to: &mut dyn Write) -> io::Result<()> {
    warnings.iter().try_for_each(|warning| writeln!(to, "warning: {warning}"))
}

fn all_json<About: std::fmt::Display>(remarks: &[Remark<About>]) -> Vec<serde_json::Value> {
    remarks.iter().map(Remark::to_json).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(subcommand)]
        command: ConfigCommand,
    }

    /// The exit code, what was printed, and what was said.
    fn run_in(folder: &tempfile::TempDir, arguments: &[&str]) -> (Exit, String, String) {
        let file = folder.path().join("certbind.toml").display().to_string();
        let mut arguments = [&["certbind"], arguments].concat();
        if arguments[1] != "schema" {
            arguments.extend(["--config", &file]);
        }
        let cli = Cli::parse_from(arguments);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code =
            run(&cli.command, Environment::default(), Timestamp::from_unix(0), &mut out, &mut err).expect("written");
        let plain =
            |bytes| String::from_utf8(bytes).expect("UTF-8").replace(&format!("{}/", folder.path().display()), "");
        (code, plain(out), plain(err))
    }

    fn folder(text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("certbind.toml"), text).expect("written");
        folder
    }

    const NO_FILES: &str =
        "issuer = \"https://a.example\"\n[listen.mtls]\ncert = \"file:c\"\nkey = \"file:k\"\n[clients]\ndir = \".\"\n";

    #[test]
    fn check_prints_every_mistake_and_ends_with_6() {
        let folder = folder(&NO_FILES.replace("[clients]", "[log]\nlevle = \"info\"\n[clients]"));
        let (code, out, err) = run_in(&folder, &["check", "--set", "data_dir=."]);
        assert_eq!(code, Exit::Invalid);
        assert_eq!(
            out,
            "certbind.toml:3:1: listen.mtls.cert: c does not exist\n\
             certbind.toml:4:1: listen.mtls.key: k does not exist\n\
             certbind.toml:6:1: log.levle: there is no such key; did you mean `log.level`?\n\
             warning: certbind.toml: trust: there is no [[trust]] group, so every client of `tls_client_auth` is refused; \
             the system's CA certificates are never used (RFC 8705 §7.4)\n\
             certbind.toml: 3 mistakes; certbind would not start\n"
        );
        assert_eq!(err, "");
    }

    #[test]
    fn of_a_file_that_is_not_there_nothing_else_is_said() {
        let (code, out, _) = run_in(&tempfile::tempdir().expect("a folder"), &["check"]);
        assert_eq!(code, Exit::Invalid);
        let expected =
            "certbind.toml: certbind.toml does not exist\ncertbind.toml: 1 mistake; certbind would not start\n";
        assert_eq!(out, expected);
    }

    #[test]
    fn a_complaint_is_one_line_whatever_a_file_is_called() {
        let folder = folder(&NO_FILES.replace("file:c", "file:c\\nlisten.mtls: valid"));
        let (_, out, _) = run_in(&folder, &["check", "--set", "data_dir=."]);
        assert!(
            out.starts_with("certbind.toml:3:1: listen.mtls.cert: c\\nlisten.mtls: valid does not exist\n"),
            "{out}"
        );
    }

    #[test]
    fn check_tells_machines_the_same() {
        let (code, out, _) = run_in(&folder(NO_FILES), &["check", "-o", "json", "--set", "data_dir=."]);
        let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!((code, &json["valid"]), (Exit::Invalid, &false.into()));
        let first = &json["complaints"][0];
        assert_eq!((&first["key"], &first["line"]), (&"listen.mtls.cert".into(), &3.into()));
        assert_eq!(json["warnings"].as_array().map(Vec::len), Some(1));
    }

    #[test]
    fn show_prints_what_holds_without_opening_files() {
        let folder = folder(NO_FILES);
        let (code, out, err) = run_in(&folder, &["show", "--set", "log.level=debug"]);
        assert_eq!(code, Exit::Done);
        assert!(out.contains("level = \"debug\"                                  # --set\n"), "{out}");
        assert!(out.contains("key = \"file:k\"                                   # certbind.toml:4:1\n"), "{out}");
        assert!(err.starts_with("warning: "), "{err}");
        let (_, out, _) = run_in(&folder, &["show", "--output", "json"]);
        let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(json["tokens.lifetime"], json!({ "value": "5m", "origin": "default" }));
    }

    #[test]
    fn show_of_an_invalid_configuration_says_why_and_ends_with_6() {
        let (code, out, err) = run_in(&folder("issuer = 1\n"), &["show"]);
        assert_eq!((code, out.as_str()), (Exit::Invalid, ""));
        assert!(err.contains("certbind.toml:1:1: issuer: should be a text in quotes; it is a whole number\n"), "{err}");
    }

    #[test]
    fn schema_prints_json() {
        let (code, out, _) = run_in(&folder(""), &["schema"]);
        assert_eq!(code, Exit::Done);
        serde_json::from_str::<serde_json::Value>(&out).expect("JSON");
    }
}
