//! From what is known at the end to a verdict. Pure: everything it needs is an argument.

use nt_abi::exception::BugCheck;
use trace::{BugCheckRecord, Counter, FindingRecord, TraceReader};

use crate::message::Message;
use crate::plan::Plan;
use crate::supervisor::ChildEnd;
use crate::verdict::{ActionResult, Bugcheck, Counts, Finding, Outcome, Verdict};

/// Judges a run.
pub fn judge(
    plan: &Plan,
    trace: &TraceReader,
    messages: &[Message],
    end: &ChildEnd,
    broken: Vec<Finding>,
    prints: Vec<String>,
) -> Verdict {
    let mut findings: Vec<Finding> = trace.findings().into_iter().map(finding).collect();
    findings.extend(broken);
    let failure = messages.iter().find_map(|message| match message {
        Message::DriverFailed { driver, why } => Some(format!("{driver}: {why}")),
        _ => None,
    });
    let finished = messages.contains(&Message::Finished) && trace.end_of_run().is_some() && end.status.success();
    let bugcheck = match trace.bugcheck() {
        Some(record) => Some(recorded(&record)),
        None if finished || (failure.is_some() && end.status.success()) => None,
        None => Some(unexplained(end)),
    };
    let outcome = match (&bugcheck, &failure, findings.is_empty()) {
        (Some(_), _, _) => Outcome::Bugcheck,
        (None, Some(_), _) => Outcome::DriverFailed,
        (None, None, false) => Outcome::Findings,
        (None, None, true) => Outcome::Clean,
    };
    Verdict {
        outcome,
        findings,
        counts: counts(trace),
        actions: messages.iter().filter_map(|message| answer(plan, message)).collect(),
        bugcheck,
        failure,
        events_lost: trace.lost(),
        unwritten: Vec::new(),
        prints,
    }
}

fn finding(record: FindingRecord) -> Finding {
    let offset = (!record.driver.is_empty()).then_some(record.offset);
    Finding {
        rule: record.rule,
        message: record.message,
        driver: record.driver,
        offset,
        source: None,
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

/// A child that went without a record: the driver destroyed its process, or we are wrong.
fn unexplained(end: &ChildEnd) -> Bugcheck {
    let why = if end.timed_out {
        "did not stop within its time limit and could not say where it was".to_string()
    } else {
        end.in_words()
    };
    let said = match end.last_words.trim() {
        "" => String::new(),
        words => format!("; it said: {words}"),
    };
    let code = BugCheck::DRYDOCK_INTERNAL_ERROR;
    Bugcheck {
        code: code.0,
        name: code.name().unwrap_or_default().into(),
        parameters: [0; 4],
        driver: String::new(),
        offset: None,
        source: None,
        in_call: false,
        message: format!(
            "the process that hosted the driver {why} without a record: the driver overwrote it or made a raw system call{said}"
        ),
    }
}
