use proptest::prelude::*;

use super::*;
use crate::{ActionResult, Counts, Finding};

fn parse(text: &str) -> Result<Scenario, String> {
    Scenario::parse(text, "test".into(), Path::new("folder"))
}

#[track_caller]
fn refused(text: &str) -> String {
    parse(text).expect_err("a wrong file")
}

fn verdict(outcome: Outcome) -> Verdict {
    Verdict {
        outcome,
        findings: Vec::new(),
        counts: Counts::default(),
        actions: Vec::new(),
        bugcheck: None,
        failure: None,
        events_lost: 0,
        untold: Vec::new(),
        crash_file: None,
        unwritten: Vec::new(),
        prints: Vec::new(),
    }
}

fn finding(rule: &str) -> Finding {
    Finding {
        rule: rule.into(),
        message: "m".into(),
        driver: "a.sys".into(),
        offset: Some(1),
        source: None,
        in_call: true,
        times: 1,
    }
}

fn result(status: NtStatus, out: &str) -> ActionResult {
    ActionResult { action: "ioctl".into(), status: status.0, information: out.len() as u64 / 2, out: out.into() }
}

const WHOLE: &str = r#"
drivers = ["hello.sys"]
net = "none"
seed = 7
timeout = 2.5

[set]
Port = 8080
Host = "127.0.0.1"

[[step]]
open = '\Device\Hello'
as = "hello"

[[step]]
ioctl = 0x222000
on = "hello"
in = "01 02"
out = "0201"
information = 2

[[step]]
read = 16
device = '\Device\Hello'
status = "STATUS_INVALID_DEVICE_REQUEST"

[[step]]
close = "hello"

[expect]
findings = []
prints = ["hello: 1"]
"#;

#[test]
fn whole_file_becomes_a_plan_and_expectations() {
    let scenario = parse(WHOLE).expect("well formed");
    assert_eq!(scenario.drivers, [PathBuf::from("folder/hello.sys")]);
    assert_eq!((scenario.seed, scenario.timeout), (Some(7), Duration::from_millis(2500)));
    assert_eq!(scenario.network, Network::None);
    let texts: Vec<_> = scenario.settings.iter().map(|set| format!("{}={:?}", set.name, set.value)).collect();
    assert_eq!(texts, [r#"Host=Text("127.0.0.1")"#, "Port=Number(8080)"]);
    let on = Target::Opened("hello".into());
    assert_eq!(scenario.actions[1], Action::Ioctl { target: on, code: 0x22_2000, input: vec![1, 2], output_max: 4096 });
    assert_eq!(scenario.expect.steps[2].status.0, NtStatus::INVALID_DEVICE_REQUEST.0);
}

#[test]
fn run_as_expected_has_no_differences() {
    let scenario = parse(WHOLE).expect("well formed");
    let mut as_expected = verdict(Outcome::Clean);
    let success = NtStatus::SUCCESS;
    let steps = [(success, ""), (success, "0201"), (NtStatus::INVALID_DEVICE_REQUEST, ""), (success, "")];
    as_expected.actions = steps.map(|(status, out)| result(status, out)).into();
    as_expected.prints = vec!["other".into(), "hello: 1 creates".into()];
    assert_eq!(scenario.differences(&as_expected), Vec::<String>::new());
}

#[test]
fn every_difference_is_told_with_its_line() {
    let scenario = parse(WHOLE).expect("well formed");
    let mut other = verdict(Outcome::Findings);
    other.findings = vec![finding("K-102")];
    other.actions = vec![result(NtStatus::SUCCESS, ""), result(NtStatus::ACCESS_DENIED, "02")];
    let found = scenario.differences(&other).join("\n");
    for part in [
        "the verdict is 'findings', expected was 'clean'",
        "finding K-102",
        "line 15, ioctl: the status is STATUS_ACCESS_DENIED, expected was STATUS_SUCCESS",
        "the information is 1, expected was 2",
        "the output is '02', expected was '0201'",
        "the step of line 22 was not carried out",
        "no driver printed \"hello: 1\"",
    ] {
        assert!(found.contains(part), "{part} is not in\n{found}");
    }
}

#[test]
fn step_that_meets_the_expected_bugcheck_is_as_expected_and_later_ones_are_not() {
    let scenario = parse(&WHOLE.replace("[expect]", "[expect]\nverdict = \"bugcheck\"")).expect("well formed");
    let mut run = verdict(Outcome::Bugcheck);
    run.prints = vec!["hello: 1".into()];
    let success = result(NtStatus::SUCCESS, "");
    run.actions = vec![success.clone(), result(NtStatus::SUCCESS, "0201"), success];
    run.actions[2].status = NtStatus::INVALID_DEVICE_REQUEST.0;
    assert_eq!(scenario.differences(&run), Vec::<String>::new());
    run.actions.pop();
    assert_eq!(scenario.differences(&run), ["the step of line 27 was not carried out"]);
    run.outcome = Outcome::DriverFailed;
    let found = scenario.differences(&run).join("\n");
    assert!(found.contains("the step of line 22 was not carried out"), "{found}");
}

#[test]
fn expected_findings_must_be_found_and_no_others() {
    let scenario = parse("drivers = ['a.sys']\n[expect]\nfindings = ['K-102']").expect("well formed");
    let mut run = verdict(Outcome::Findings);
    run.findings = vec![finding("K-102"), finding("K-102")];
    assert_eq!(scenario.differences(&run), Vec::<String>::new());
    run.findings = vec![finding("C-134")];
    let found = scenario.differences(&run);
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn wrong_files_are_refused_with_line_and_reason() {
    let step = |body: &str| format!("drivers = ['a.sys']\n\n[[step]]\n{body}");
    for (text, part) in [
        ("", "missing field `drivers`"),
        ("drivers = []", "'drivers' is empty"),
        ("drivers = ['a.sys']\ndriver = 1", "unknown field `driver`"),
        ("drivers = ['a.sys']\nnet = 'moon'", "line 2: 'moon' is no network"),
        ("drivers = ['a.sys']\nnet = 'sim:missing.toml'", "cannot read the network file folder/missing.toml"),
        ("drivers = ['a.sys']\ntimeout = 0", "'timeout'"),
        ("drivers = ['a.sys'", "line 1"),
        (&step(""), "line 3: a step has exactly one of"),
        (&step("read = 1\nwait = 1"), "[\"read\", \"wait\"]"),
        (&step("read = 1"), "line 3: 'read' needs either device"),
        (&step("read = 1\ndevice = '\\d'\non = 'o'"), "needs either device"),
        (&step("open = 'd'"), "'open' needs as"),
        (&step("ioctl = 1\ndevice = '\\d'\nin = '0'"), "not a row of hex"),
        (&step("wait = -1"), "'wait'"),
        (&step("wait = 1\nout = '00'"), "'out' goes with ioctl, read, not with 'wait'"),
        (&step("close = 'a'\nstatus = 'STATUS_NONSENSE'"), "no status that Drydock knows"),
        ("drivers = ['a.sys']\n[expect]\nverdict = 'good'", "unknown variant `good`"),
    ] {
        let why = refused(text);
        assert!(why.contains(part), "{text:?}: {part:?} is not in {why:?}");
    }
}

#[test]
fn missing_file_and_folder_are_told() {
    for path in ["/nonexistent/a.toml", "/"] {
        let why = Scenario::load(path).expect_err("no file").to_string();
        assert!(why.starts_with(&format!("cannot read {path}")), "{why}");
    }
}

proptest! {
    #[test]
    fn any_text_is_judged(text in ".{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn any_step_is_judged(key in "open|close|ioctl|read|write|wait|as|device|on|in|offset|out_size|status|out", value in "[-0-9a-z'. ]{0,12}") {
        let _ = parse(&format!("drivers = ['a']\n[[step]]\n{key} = {value}\nread = 1\ndevice = '\\d'"));
    }
}

#[test]
fn text_that_looks_like_a_number_stays_text() {
    let scenario = parse("drivers = ['a.sys']\n[set]\nA = '8080'\nB = 0x10\n").expect("well formed");
    let values: Vec<_> = scenario.settings.into_iter().map(|set| set.value).collect();
    assert_eq!(values, [Value::Text("8080".into()), Value::Number(16)]);
}

#[test]
fn values_of_the_wrong_type_are_refused_in_words_about_the_file() {
    let set = refused("drivers = ['a.sys']\n[set]\nA = 1.5\n");
    assert!(set.contains("line 3") && set.contains("expected text in quotes"), "{set}");
    let status = refused("drivers = ['a.sys']\n[[step]]\nopen = '\\\\x'\nas = 'y'\nstatus = true\n");
    assert!(status.contains("expected a status by name"), "{status}");
}

#[test]
fn device_without_its_backslash_is_refused() {
    for step in ["open = 'Device'\nas = 'a'", "ioctl = 1\ndevice = 'Device'"] {
        let why = refused(&format!("drivers = ['a.sys']\n[[step]]\n{step}\n"));
        assert!(why.contains("begins with a backslash"), "{why}");
    }
}
