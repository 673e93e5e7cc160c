//! Parses the command line, runs one command, turns the outcome into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    certbind::cli::main().into()
}
