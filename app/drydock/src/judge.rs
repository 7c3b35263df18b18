//! From what is known at the end to a verdict. Pure: everything it needs is an argument.

use nix::sys::signal::Signal;
use nt_abi::exception::BugCheck;
use trace::{BugCheckRecord, Counter, FindingRecord, TraceReader};

use crate::host::HOST_FAILED_EXIT;
use crate::message::Message;
use crate::outputs::Broken;
use crate::plan::Plan;
use crate::supervisor::ChildEnd;
use crate::verdict::{ActionResult, Bugcheck, Counts, Finding, Outcome, Verdict};

/// Judges a run. A child that went without a record has a death of its own kind, for the crash file.
pub fn judge(
    plan: &Plan,
    trace: &TraceReader,
    messages: &[Message],
    end: &ChildEnd,
    report: Broken,
    prints: Vec<String>,
) -> (Verdict, Option<BugCheckRecord>) {
    let mut findings: Vec<Finding> = trace.findings().into_iter().map(finding).collect();
    findings.extend(report.findings);
    findings.extend(damage(trace.damaged()));
    let mut untold = report.untold;
    let beyond = trace.findings_overflow();
    if beyond > 0 {
        untold.push(format!("{beyond} more findings are not listed: there was no room for them"));
    }
    let failure = messages.iter().find_map(|message| match message {
        Message::DriverFailed { driver, why } => Some(format!("{driver}: {why}")),
        _ => None,
    });
    let success = end.end.status.success();
    let finished = messages.contains(&Message::Finished) && trace.end_of_run().is_some() && success;
    // Where the driver was when somebody stopped the run is no fault of it.
    let record = trace
        .bugcheck()
        .filter(|record| {
            (end.end.stopped.is_none() && !end.undebugged) || BugCheck(record.code) != BugCheck::DPC_WATCHDOG_VIOLATION
        })
        // A process that came to its end has written none: somebody else has.
        .filter(|_| !success);
    let host = if record.is_some() || finished { None } else { fault_of_host(end) };
    let bugcheck = match &record {
        Some(record) => Some(recorded(record)),
        None if host.is_some() || finished || (failure.is_some() && success) => None,
        None => Some(unexplained(plan, end)),
    };
    let outcome = match (&bugcheck, &host, &failure, findings.is_empty()) {
        (Some(_), ..) => Outcome::Bugcheck,
        (_, Some(_), ..) => Outcome::HostFailed,
        (_, _, Some(_), _) => Outcome::DriverFailed,
        (_, _, _, false) => Outcome::Findings,
        (_, _, _, true) => Outcome::Clean,
    };
    let death = || {
        let (code, message) = match (&bugcheck, &host) {
            (Some(bugcheck), _) => (BugCheck(bugcheck.code), bugcheck.message.clone()),
            // Before any driver was mapped there is nothing to tell, nor of a run that somebody stopped.
            (None, Some(host)) if end.end.stopped.is_none() && !trace.images().is_empty() => {
                (BugCheck::DRYDOCK_HOST_FAILED, host.clone())
            }
            _ => return None,
        };
        Some(BugCheckRecord { complete: true, code: code.0, message, ..BugCheckRecord::default() })
    };
    let death = record.or_else(death);
    let verdict = Verdict {
        outcome,
        findings,
        counts: counts(trace),
        actions: messages.iter().filter_map(|message| answer(plan, message)).collect(),
        bugcheck,
        failure: host.or(failure),
        events_lost: trace.lost(),
        untold,
        crash_file: None,
        unwritten: Vec::new(),
        prints,
    };
    (verdict, death)
}

/// Places in the rings that hold no record: only a driver can have written there.
fn damage(places: u64) -> Option<Finding> {
    (places > 0).then(|| Finding {
        rule: String::new(),
        message: format!(
            "memory that Drydock keeps its records in was written over ({places} places): a driver writes where it has \
             nothing, and what is told of this run may be wrong"
        ),
        driver: String::new(),
        offset: None,
        source: None,
        in_call: false,
        times: 1,
    })
}

/// An end that says nothing about the driver, in words.
fn fault_of_host(end: &ChildEnd) -> Option<String> {
    if let Some(signal) = end.end.stopped {
        let name = Signal::try_from(signal).map_or("a signal", Signal::as_str);
        return Some(format!("the run was stopped by {name} before it came to its end"));
    }
    if end.undebugged && end.end.asked {
        return Some("no debugger was attached within the time limit; no driver has run".into());
    }
    const LIMITS: &str = "raise the limit ('ulimit -a', the container's or cgroup's) or free some";
    if end.end.status.code() == Some(HOST_FAILED_EXIT) {
        return Some(format!("the process for the drivers could not be brought up: {}", end.last_words.trim()));
    }
    if end.ran_out_of_memory() {
        return Some(format!(
            "the process that hosts the drivers got no more memory; {LIMITS}, or look for a driver that allocates without end"
        ));
    }
    let signal = end.signal_from_outside()?;
    let why = match signal {
        Signal::SIGKILL => {
            "Drydock did not send it: the kernel does when memory runs out (see 'dmesg'), or somebody did; run again, with \
             more memory if that was it"
        }
        Signal::SIGXCPU => "its limit of processor time was reached; raise it ('ulimit -t')",
        Signal::SIGXFSZ => "its limit of file size was reached; raise it ('ulimit -f')",
        _ => "somebody sent it from outside; run again",
    };
    Some(format!("the process that hosts the drivers was killed by {signal}, which no driver is to blame for. {why}"))
}

fn finding(record: FindingRecord) -> Finding {
    let offset = (!record.driver.is_empty()).then_some(record.offset);
    Finding {
        rule: record.rule,
        message: record.message,
        driver: record.driver,
        offset,
        source: None,
        in_call: true,
        times: record.times.max(1),
    }
}

fn counts(trace: &TraceReader) -> Counts {
    Counts {
        opens: trace.count(Counter::Opens),
        cleanups: trace.count(Counter::Cleanups),
        closes: trace.count(Counter::Closes),
        irps: trace.count(Counter::Irps),
        bytes_sent: trace.count(Counter::BytesSent),
        bytes_received: trace.count(Counter::BytesReceived),
    }
}

fn answer(plan: &Plan, message: &Message) -> Option<ActionResult> {
    let Message::Done { index, status, information, out } = message else { return None };
    let action = plan.actions.get(*index)?.to_string();
    Some(ActionResult { action, status: *status, information: *information, out: out.clone() })
}

fn recorded(record: &BugCheckRecord) -> Bugcheck {
    let code = BugCheck(record.code);
    Bugcheck {
        code: record.code,
        name: code.name().unwrap_or("(a code Drydock has no name for)").into(),
        parameters: record.parameters,
        driver: record.driver.clone(),
        offset: (!record.driver.is_empty()).then_some(record.offset),
        source: None,
        in_call: record.import.is_some(),
        message: record.message.clone(),
    }
}

/// A child that went without a record: the driver destroyed its process, or we are wrong. An only driver is named.
fn unexplained(plan: &Plan, end: &ChildEnd) -> Bugcheck {
    let why = if end.end.asked {
        "did not stop within its time limit and could not say where it was: it was stopped itself, or its signals were blocked".to_string()
    } else {
        format!("{} without a record: the driver overwrote it or made a system call of its own", end.in_words())
    };
    let said = match end.last_words.trim() {
        "" => String::new(),
        words => format!("; it said: {words}"),
    };
    let code = BugCheck::DRYDOCK_INTERNAL_ERROR;
    let driver = if plan.drivers.len() == 1 { plan.driver_names() } else { String::new() };
    Bugcheck {
        code: code.0,
        name: code.name().unwrap_or_default().into(),
        parameters: [0; 4],
        driver,
        offset: None,
        source: None,
        in_call: false,
        message: format!("the process that hosted the driver {why}{said}"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use trace::{TraceFile, TraceOptions, TraceWriter};

    use super::*;
    use crate::limit::End;

    fn ended(raw: i32, last_words: &str) -> ChildEnd {
        let end = End { status: ExitStatus::from_raw(raw), asked: false, stopped: None, killed: false };
        ChildEnd { end, last_words: last_words.into(), undebugged: false }
    }

    fn judged(write: impl FnOnce(&'static TraceWriter, &File), end: &ChildEnd) -> Verdict {
        let file = TraceFile::create(&TraceOptions::default()).expect("memory");
        let mut reader = TraceReader::new(&file).expect("memory");
        let fd = file.try_clone_fd().expect("a descriptor");
        let writer = TraceWriter::map(&fd).expect("memory");
        write(writer, &File::from(fd));
        reader.finish();
        let report = Broken { findings: Vec::new(), untold: Vec::new() };
        judge(&Plan::default(), &reader, &[Message::Finished], end, report, Vec::new()).0
    }

    #[test]
    fn findings_beyond_the_files_room_are_counted_in_the_verdict() {
        let verdict = judged(
            |trace, _| {
                for offset in 0..300 {
                    trace.finding("K-001", "left behind", "a.sys", offset);
                }
                trace.end_of_run(trace::EndOfRun::default());
            },
            &ended(0, ""),
        );
        assert_eq!((verdict.outcome, verdict.findings.len()), (Outcome::Findings, 256));
        assert!(verdict.untold.iter().any(|text| text.starts_with("44 more findings")), "{:?}", verdict.untold);
    }

    #[test]
    fn rings_that_were_written_over_are_a_finding() {
        let verdict = judged(
            |trace, file| {
                // The head of the first ring: five records, of which there is none.
                file.write_all_at(&5u64.to_le_bytes(), 64 * 64).expect("the trace memory");
                trace.end_of_run(trace::EndOfRun::default());
            },
            &ended(0, ""),
        );
        assert_eq!(verdict.outcome, Outcome::Findings);
        assert!(verdict.findings[0].message.contains("written over"), "{:?}", verdict.findings);
    }

    #[test]
    fn only_signals_from_outside_are_the_hosts_fault() {
        let outcome = |raw, words: &str| judged(|_, _| {}, &ended(raw, words)).outcome;
        for signal in [9, 15, 2, 1, 24, 25] {
            assert_eq!(outcome(signal, ""), Outcome::HostFailed, "signal {signal}");
        }
        assert_eq!(outcome(6, "memory allocation of 4096 bytes failed"), Outcome::HostFailed);
        assert_eq!(outcome(HOST_FAILED_EXIT << 8, "Cannot allocate memory"), Outcome::HostFailed);
        for raw in [4, 6, 7, 8, 11, 31, 1 << 8, 0] {
            assert_eq!(outcome(raw, ""), Outcome::Bugcheck, "status {raw:#x}");
        }
    }

    #[test]
    fn child_that_was_killed_because_it_did_not_stop_is_a_bugcheck() {
        let mut end = ended(9, "");
        (end.end.asked, end.end.killed) = (true, true);
        assert_eq!(judged(|_, _| {}, &end).outcome, Outcome::Bugcheck);
    }
}
