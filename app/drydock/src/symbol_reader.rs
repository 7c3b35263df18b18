//! Debug information is read by a process of its own.
//!
//! A driver and its PDB come from strangers, and the crates that read them panic on some damaged files or take memory and time
//! without end. So the supervisor starts its program once more for each driver: that process opens the two files, gives up
//! everything else (the same sandbox that hosts drivers), reads, answers one line and ends. It has limits of memory and
//! processor time, and the supervisor one of patience. However it ends, the run keeps its verdict.

use std::ffi::OsStr;
use std::io::{self, BufRead, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use sandbox::{Files, Policy};
use serde::{Deserialize, Serialize};
use symbols::{SourcePlace, Symbols};

/// What the process is called: its `argv[0]`.
pub const READER_NAME: &str = "drydock symbols";
/// Most memory of the process: images and PDBs of a gigabyte, and what is made of them.
const MEMORY_MAX: u64 = 8 << 30;
/// Most seconds of processor time, and of patience. The largest PDBs of drivers take a second or two.
const SECONDS_MAX: u64 = 20;
/// Most bytes of an answer.
const ANSWER_MAX: u64 = 16 << 20;

/// What is asked for.
#[derive(Serialize, Deserialize)]
struct Question {
    /// Its path as bytes, which need not be UTF-8.
    image: Vec<u8>,
    offsets: Vec<u64>,
}

/// What is answered.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The functions and lines at the offsets, in words; `None` where nothing is known.
    pub sources: Vec<Option<String>>,
    /// In what the process was not held while it read, in words, if it was not.
    pub unheld: Option<String>,
}

/// The functions and lines at some offsets of an image.
///
/// # Errors
/// Why nothing could be read, in words. No debug information is no error.
pub fn read(program: &Path, image: &Path, offsets: &[u64]) -> Result<Answer, String> {
    let mut command = Command::new(program);
    command.env_clear().process_group(0);
    command.arg0(READER_NAME).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| format!("no process to read it: {error}"))?;
    let question = Question { image: image.as_os_str().as_bytes().to_vec(), offsets: offsets.to_vec() };
    let answer = serde_json::to_vec(&question).map_err(io::Error::from).and_then(|question| ask(&mut child, question));
    let status = end(&mut child);
    let answer = answer.map_err(|error| error.to_string())?;
    let answer: Option<Answer> = serde_json::from_slice(&answer).ok();
    answer.filter(|answer| answer.sources.len() == offsets.len()).ok_or_else(|| in_words(status))
}

/// Gives the question and reads what comes back, on a thread, because nobody waits for it without end.
fn ask(child: &mut Child, question: Vec<u8>) -> io::Result<Vec<u8>> {
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let (Some(mut stdin), Some(stdout)) = (stdin, stdout) else { return Err(io::ErrorKind::BrokenPipe.into()) };
    let talk = thread::spawn(move || {
        // A process that is gone already gives no answer, which is told then.
        let _ = stdin.write_all(&question);
        drop(stdin);
        let mut answer = Vec::new();
        stdout.take(ANSWER_MAX).read_to_end(&mut answer).map(|_| answer)
    });
    let started = Instant::now();
    while !talk.is_finished() {
        if started.elapsed() > Duration::from_secs(SECONDS_MAX) {
            let _ = child.kill();
        }
        thread::sleep(Duration::from_millis(1));
    }
    talk.join().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))
}

/// Ends the process, if it has not ended.
fn end(child: &mut Child) -> Option<ExitStatus> {
    for _ in 0..1000 {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(1));
    }
    let _ = child.kill();
    child.wait().ok()
}

fn in_words(status: Option<ExitStatus>) -> String {
    let signal = status.and_then(|status| status.signal()).and_then(|signal| Signal::try_from(signal).ok());
    match signal {
        Some(Signal::SIGKILL | Signal::SIGXCPU) => format!("it took longer than {SECONDS_MAX} seconds"),
        Some(signal) => format!("its reader was ended by {signal}: the file is damaged"),
        None => "its reader gave no answer".into(),
    }
}

/// The whole life of that process.
///
/// # Errors
/// What kept it from answering.
pub fn serve() -> io::Result<()> {
    // The supervisor's end is ours.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    let limits = [(Resource::RLIMIT_AS, MEMORY_MAX), (Resource::RLIMIT_CPU, SECONDS_MAX), (Resource::RLIMIT_CORE, 0)];
    for (resource, limit) in limits {
        setrlimit(resource, limit, limit)?;
    }
    let mut line = Vec::new();
    io::stdin().lock().read_until(b'\n', &mut line)?;
    let Question { image, offsets } = serde_json::from_slice(&line)?;
    let (bytes, pdb) = symbols::files(Path::new(OsStr::from_bytes(&image)))?;
    // What is read is a stranger's: from here on nothing can be opened, and nothing of Linux asked that leads out. Where the
    // kernel cannot do that, the process alone must do, and the user is told.
    let files = sandbox::forbid_files(None);
    let unheld = unheld(files, sandbox::restrict_calls(Policy { sockets: false, files: false }));
    let symbols = Symbols::new(&bytes, pdb);
    let source = |offset: &u64| symbols.as_ref()?.place(*offset).and_then(|place| in_words_of(&place));
    let answer = Answer { sources: offsets.iter().map(source).collect(), unheld };
    io::stdout().write_all(&serde_json::to_vec(&answer)?)
}

/// What to tell of a process that is not held in. The list of system calls has none that opens a file, so without Landlock it
/// does alone.
fn unheld(files: Files, calls: io::Result<()>) -> Option<String> {
    let error = calls.err()?;
    let files = match files {
        Files::Forbidden => "",
        Files::PartlyForbidden => ", and files only in part",
        Files::NoLandlock => ", nor files",
    };
    Some(format!("this kernel does not restrict system calls ({error}){files}"))
}

/// Whether this process was started to read debug information.
pub fn is_asked_for() -> bool {
    env::args_os().next().is_some_and(|name| name == READER_NAME)
}

/// `function (file.c:12)`, or what there is of it.
fn in_words_of(place: &SourcePlace) -> Option<String> {
    let file = place
        .file
        .as_deref()
        .map(|file| Path::new(file).file_name().map_or(file.into(), |name| name.to_string_lossy()));
    let line = file.map(|file| place.line.map_or(file.to_string(), |line| format!("{file}:{line}")));
    match (&place.function, line) {
        (Some(function), Some(line)) => Some(format!("{function} ({line})")),
        (Some(function), None) => Some(function.clone()),
        (None, line) => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_place_is_said() {
        let place = |function: Option<&str>, file: Option<&str>, line| SourcePlace {
            function: function.map(Into::into),
            file: file.map(Into::into),
            line,
        };
        assert_eq!(in_words_of(&place(Some("F"), Some("/a/b.c"), Some(3))).as_deref(), Some("F (b.c:3)"));
        assert_eq!(in_words_of(&place(Some("F"), None, None)).as_deref(), Some("F"));
        assert_eq!(in_words_of(&place(None, Some("b.c"), None)).as_deref(), Some("b.c"));
        assert_eq!(in_words_of(&place(None, None, None)), None);
    }

    #[test]
    fn what_does_not_hold_the_reader_is_said() {
        assert_eq!(unheld(Files::Forbidden, Ok(())), None);
        assert_eq!(unheld(Files::NoLandlock, Ok(())), None, "the list of system calls opens no file either");
        let none = || Err(io::Error::other("no seccomp"));
        let told = "this kernel does not restrict system calls (no seccomp)";
        assert_eq!(unheld(Files::Forbidden, none()).as_deref(), Some(told));
        assert_eq!(unheld(Files::NoLandlock, none()), Some(format!("{told}, nor files")));
    }

    #[test]
    fn reader_that_ends_without_an_answer_is_told() {
        let told = read(Path::new("/bin/false"), Path::new("a.sys"), &[1]);
        assert_eq!(told, Err("its reader gave no answer".into()));
        assert!(read(Path::new("/no/such/program"), Path::new("a.sys"), &[1]).is_err());
        // Answers with what it was asked, which is no answer.
        assert_eq!(read(Path::new("/bin/cat"), Path::new("a.sys"), &[1]), Err("its reader gave no answer".into()));
    }
}
