//! Programs that run to their end, and not for ever.

use std::io::Read;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// Longer than any program of a test takes, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(300);

/// What a program came to. One that does not end is killed, and the test fails: no run of the tests waits for what never comes.
pub(crate) trait Finish {
    fn finish(self) -> Output;
}

impl Finish for &mut Command {
    /// Nothing is on its standard input.
    fn finish(self) -> Output {
        self.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.spawn().unwrap_or_else(|error| panic!("{self:?}: {error}")).finish()
    }
}

impl Finish for Child {
    fn finish(mut self) -> Output {
        let until = Instant::now() + PATIENCE;
        drop(self.stdin.take());
        let stdout = Said::by(self.stdout.take());
        let stderr = Said::by(self.stderr.take());
        let status = loop {
            if let Some(status) = self.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > until {
                let _ = self.kill();
                let _ = self.wait();
                let (_, said) = stderr.all(Instant::now() + Duration::from_secs(1));
                panic!("a program does not end; it has said {}", String::from_utf8_lossy(&said));
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let [stdout, stderr] = [stdout, stderr].map(|said| {
            let (is_all, said) = said.all(until);
            let shown = || String::from_utf8_lossy(&said).into_owned();
            assert!(is_all, "a program has ended and something that it started has not; they have said {}", shown());
            said
        });
        Output { status, stdout, stderr }
    }
}

/// What comes out of a pipe, read in a thread of its own: a full pipe would hold up the program.
struct Said(Receiver<Vec<u8>>);

impl Said {
    fn by(stream: Option<impl Read + Send + 'static>) -> Self {
        let (sender, receiver) = channel();
        if let Some(stream) = stream {
            std::thread::spawn(move || read(stream, &sender));
        }
        Self(receiver)
    }

    /// Whether that is all, and as much as came in time.
    fn all(&self, until: Instant) -> (bool, Vec<u8>) {
        let mut said = Vec::new();
        loop {
            match self.0.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(piece) => said.extend(piece),
                Err(error) => return (error == std::sync::mpsc::RecvTimeoutError::Disconnected, said),
            }
        }
    }
}

fn read(mut stream: impl Read, to: &Sender<Vec<u8>>) {
    let mut piece = [0; 8192];
    while let Ok(length @ 1..) = stream.read(&mut piece) {
        if to.send(piece[..length].to_vec()).is_err() {
            return;
        }
    }
}

#[test]
fn a_program_that_has_ended_is_not_waited_for_longer_and_all_that_it_said_is_there() {
    let output = Command::new("sh").args(["-c", "cat; head -c 1000000 /dev/zero; echo no >&2; exit 3"]).finish();
    assert_eq!((output.status.code(), output.stdout.len(), &*output.stderr), (Some(3), 1_000_000, &b"no\n"[..]));
}
