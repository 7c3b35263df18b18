//! What the command line promises: exit statuses, the JSON object, and the files it writes.

mod scenario;

use std::fs;
use std::process::{Command, Stdio};

use scenario::Run;
use scenario::server::{After, Observer};
use serde_json::Value;

const ANSWER: &[u8] = b"HTTP/1.0 200 OK\r\n\r\nten bytes.";

fn drydock(arguments: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_drydock")).args(arguments).output().expect("drydock can be started")
}

#[test]
fn no_output_overwrites_what_the_run_was_described_by() {
    let folder = scenario::folder("inputs");
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).expect("a file can be written");
        path.into_os_string().into_string().expect("a path that is text")
    };
    let network = file("network.toml", "[[host]]\nname = \"here\"\naddress = [\"10.0.0.1\"]\n");
    let registry = file("values.reg", "Windows Registry Editor Version 5.00\n");
    let hello = scenario::sample("hello.sys").into_os_string().into_string().expect("a path that is text");
    let scenario = file("scenario.toml", &format!("drivers = ['{hello}']\n"));
    let simulated = format!("sim:{network}");
    for (arguments, input) in [
        (&["run", &hello, "--net", &simulated, "--trace", &network][..], &network),
        (&["run", &hello, "--registry", &registry, "--figure", &registry], &registry),
        (&["run", "--scenario", &scenario, "--trace", &scenario], &scenario),
        (&["test", &scenario, "--junit", &scenario], &scenario),
        (&["test", &scenario, "--junit", &network], &network),
    ] {
        let before = fs::read(input).expect("the input");
        let output = drydock(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains("choose another file"), "{arguments:?}: {stderr}");
        assert!(!output.status.success(), "{arguments:?}");
        assert_eq!(fs::read(input).expect("the input"), before, "{arguments:?}");
    }
}

#[test]
fn outputs_do_not_go_among_the_drivers_files() {
    let folder = scenario::folder("drivers-files");
    let theirs = folder.join("theirs.txt");
    fs::write(&theirs, "the driver's").expect("a file can be written");
    let text = |path: &std::path::Path| path.to_str().expect("a path that is text").to_owned();
    let hello = text(&scenario::sample("hello.sys"));
    for output in [text(&theirs), text(&folder.join("new.txt"))] {
        for option in ["--trace", "--figure"] {
            let ran = drydock(&["run", &hello, "--files", &text(&folder), option, &output]);
            let stderr = String::from_utf8_lossy(&ran.stderr);
            assert_eq!(ran.status.code(), Some(64), "{stderr}");
            assert!(stderr.contains("the folder of --files"), "{stderr}");
        }
    }
    assert_eq!(fs::read_to_string(&theirs).expect("the driver's file"), "the driver's");
    assert!(!folder.join("new.txt").exists());
}

#[test]
fn what_cannot_be_read_is_wrong_use_and_named_once() {
    let hello = scenario::sample("hello.sys").into_os_string().into_string().expect("a path that is text");
    let bad = scenario::folder("bad-registry").join("bad.reg");
    fs::write(&bad, "no registry file\n").expect("a file can be written");
    let bad = bad.to_str().expect("a path that is text");
    for (arguments, word) in [
        (&["run", "no-such.sys"][..], "cannot read no-such.sys: "),
        (&["run", "/"], "cannot read /: it is no regular file"),
        (&["run", &hello, "--registry", bad], "the registry file makes no sense: line 1: "),
        (&["run", &hello, "--registry", "no-such.reg"], "cannot read no-such.reg: "),
        (&["run", "--scenario", "no-such.toml"], "cannot read no-such.toml: "),
    ] {
        let output = drydock(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(64), true), "{arguments:?}: {stderr}");
        assert!(stderr.starts_with(&format!("drydock: {word}")), "{arguments:?}: {stderr}");
        assert_eq!(stderr.matches("no-such").count(), usize::from(word.contains("no-such")), "{stderr}");
    }
    let output = drydock(&["test", scenario::folder("no-scenarios").to_str().expect("a path that is text")]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("see 'drydock test --help'"), "{output:?}");
}

/// Starts a command whose stdout nobody reads, and gives its status.
fn unread(arguments: &[&str]) -> Option<i32> {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_drydock"));
    let output =
        command.args(arguments).stdout(writer).stderr(Stdio::piped()).output().expect("drydock can be started");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
    output.status.code()
}

#[test]
fn closed_pipe_is_no_failure_and_costs_no_report() {
    let hello = scenario::sample("hello.sys").into_os_string().into_string().expect("a path that is text");
    let folder = scenario::folder("closed-pipe");
    let text = |name: &str| folder.join(name).into_os_string().into_string().expect("a path that is text");
    fs::write(folder.join("one.toml"), format!("drivers = ['{hello}']\n")).expect("a file can be written");
    let _ = fs::remove_file(folder.join("results.xml"));
    assert_eq!(unread(&["inspect", &hello]), Some(0));
    assert_eq!(unread(&["inspect", "--json", &hello]), Some(0));
    assert_eq!(unread(&["run", &hello]), Some(0));
    assert_eq!(unread(&["run", "--show-policy"]), Some(0));
    assert_eq!(unread(&["man"]), Some(0));
    assert_eq!(unread(&["test", &text("one.toml"), "--junit", &text("results.xml")]), Some(0));
    let report = fs::read_to_string(folder.join("results.xml")).expect("the report");
    assert!(report.contains(r#"tests="1" failures="0""#), "{report}");
}

/// The names of all keys in a value.
fn keys(value: &Value, into: &mut std::collections::BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                into.insert(key.clone());
                keys(value, into);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| keys(value, into)),
        _ => {}
    }
}

#[test]
fn every_json_key_is_documented() {
    let document = include_str!("../../../docs/json.md");
    let mut found = std::collections::BTreeSet::new();
    let ran = Run::sample("crashing.sys").ioctl(r"\Device\Crashing", 0x22_2000).run();
    keys(&ran.verdict, &mut found);
    keys(&Run::sample("leaky.sys").ioctl(r"\Device\Nothing", 0x22_2000).run().verdict, &mut found);
    let images = ["crashing.sys", "tdi_client.sys", "tdi_filter.sys"].map(scenario::sample);
    let images: Vec<&str> = images.iter().filter_map(|path| path.to_str()).collect();
    let output = drydock(&[&["inspect", "--json"], &images[..]].concat());
    keys(&serde_json::from_slice(&output.stdout).expect("JSON"), &mut found);
    assert!(found.contains("untold") && found.contains("while_starting") && found.contains("status"), "{found:?}");
    for key in found {
        assert!(document.contains(&format!("`{key}`")), "{key} is not in docs/json.md");
    }
}

#[test]
fn two_drivers_of_one_file_name_are_refused() {
    let hello = scenario::sample("hello.sys");
    let other = scenario::folder("same-name").join("hello.sys");
    fs::copy(&hello, &other).expect("a copy");
    let ran = Run::of(hello).arg(other).run().expect("driver_failed", 2);
    let why = ran.verdict["failure"].as_str().expect("a reason");
    assert!(why.contains(r"a driver named \Driver\hello is loaded already"), "{why}");
}

#[test]
fn refusals_of_the_network_are_explained_once() {
    for (network, host) in [("none", "127.0.0.1"), ("loopback", "192.0.2.1")] {
        let run = Run::sample("tdi_client.sys").set("Host", host).set("Port", 9).set("Connections", 3);
        let ran = run.args(["--net", network]).run();
        assert_eq!(ran.account.matches(&format!("(--net {network})")).count(), 1, "{}", ran.account);
    }
}

#[test]
fn one_file_cannot_be_two_outputs() {
    let both =
        scenario::folder("two-outputs").join("both").into_os_string().into_string().expect("a path that is text");
    let hello = scenario::sample("hello.sys").into_os_string().into_string().expect("a path that is text");
    let _ = fs::remove_file(&both);
    let output = drydock(&["run", &hello, "--trace", &both, "--figure", &both]);
    assert_eq!(output.status.code(), Some(64), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read(&both).unwrap_or_default(), b"");
}

#[test]
fn trace_goes_whole_into_a_named_pipe() {
    let pipe = scenario::folder("pipe").join("trace");
    let _ = fs::remove_file(&pipe);
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let hello = scenario::sample("hello.sys").into_os_string().into_string().expect("a path that is text");
    let mut cat = Command::new("timeout");
    let reader = cat.args(["60", "cat"]).arg(&pipe).stdout(Stdio::piped()).spawn().expect("cat");
    let output = drydock(&["run", &hello, "--trace", pipe.to_str().expect("a path that is text"), "--timeout", "50"]);
    let text = reader.wait_with_output().expect("what came through").stdout;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&text).contains("RunEnded"));
}

#[test]
fn wrong_use_exits_with_64_and_says_what_was_wrong() {
    for (arguments, word) in [
        (&[][..], "Usage"),
        (&["run"], "DRIVER.sys"),
        (&["run", "a.sys", "--no-such-option"], "--no-such-option"),
        (&["run", "a.sys", "--set", "Port"], "NAME=VALUE"),
        (&["run", "a.sys", "--net", "moon"], "loopback"),
        (&["run", "a.sys", "--ioctl", r"\Device\Hello", "often"], "often"),
        (&["run", "a.sys", "--ioctl", r"\Device\Hello", "1", "--in", "xyz"], "xyz"),
        (&["run", "a.sys", "--timeout", "never"], "seconds"),
        (&["run", "a.sys", "--seed", "x"], "whole number"),
        (&["run", "a.sys", "--ioctl", "DeviceHello", "1"], "backslash"),
        (&["hello.sys"], "drydock run DRIVER.sys"),
        (&["sail"], "sail"),
    ] {
        let output = drydock(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {stderr}");
        assert!(stderr.contains(word), "{arguments:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn every_help_shows_an_example_that_the_command_line_takes() {
    for command in ["", "run", "inspect", "test", "completions", "man"] {
        let mut arguments = vec![command, "--help"];
        arguments.retain(|argument| !argument.is_empty());
        let output = drydock(&arguments);
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{stdout}");
        let wanted = format!("  drydock {command}");
        let examples: Vec<&str> = stdout.lines().filter(|line| line.starts_with(wanted.trim_end())).collect();
        assert!(!examples.is_empty(), "{stdout}");
        for example in examples {
            // Taken up to where files are missed: anything but wrong use.
            let line = example.trim().split(" > ").next().expect("a command");
            let words: Vec<String> = line.split_whitespace().skip(1).map(|word| word.replace('\'', "")).collect();
            let words: Vec<&str> = words.iter().map(String::as_str).filter(|word| *word != "--gdb").collect();
            let mut command = Command::new(env!("CARGO_BIN_EXE_drydock"));
            let output = command.args(&words).current_dir(scenario::folder("help")).output();
            let output = output.expect("drydock can be started");
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(!stderr.contains("Usage"), "{line}: {stderr}");
        }
    }
    let stdout = drydock(&["run", "--help"]).stdout;
    assert!(String::from_utf8_lossy(&stdout).contains("64 wrong use"));
}

#[test]
fn manual_is_one_page_with_a_section_for_each_command() {
    let page = String::from_utf8(drydock(&["man"]).stdout).expect("text");
    assert_eq!(page.lines().filter(|line| line.starts_with(".TH")).count(), 1, "{page}");
    for title in ["NAME", "SYNOPSIS", "DRYDOCK RUN", "DRYDOCK INSPECT", "DRYDOCK TEST", "FILES"] {
        assert_eq!(page.lines().filter(|line| *line == format!(".SH {title}")).count(), 1, "{title}: {page}");
    }
}

#[test]
fn variable_of_the_environment_does_not_turn_a_run_into_a_host() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_drydock"));
    command.arg("run").arg(scenario::sample("hello.sys")).arg("--quiet").env("DRYDOCK_HOST", "1");
    let output = command.output().expect("drydock can be started");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.starts_with("verdict  clean"), "{stdout}");
}

#[test]
fn driver_whose_name_is_no_text_is_run() {
    use std::os::unix::ffi::OsStrExt;
    let name = std::ffi::OsStr::from_bytes(b"hello\xFF.sys");
    let image = scenario::folder("names").join(name);
    fs::copy(scenario::sample("hello.sys"), &image).expect("a copy");
    Run::of(&image).run().expect_clean();
}

#[test]
fn network_file_that_names_a_driver_which_is_not_loaded_is_wrong_use() {
    let file = scenario::folder("networks").join("slip.toml");
    let text = "[[host]]\nname = \"a\"\naddress = [\"10.0.0.1\"]\ndriver = \"helo.sys\"\n";
    fs::write(&file, text).expect("a network file");
    let image = scenario::sample("hello.sys");
    let output = drydock(&["run", image.to_str().expect("text"), "--net", &format!("sim:{}", file.display())]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{stderr}");
    assert!(stderr.contains("helo.sys") && stderr.contains("hello.sys"), "{stderr}");
}

#[test]
fn failing_driver_entry_is_told_with_the_name_of_its_status() {
    let ran = Run::client(([127, 0, 0, 1], 1).into()).run().expect("driver_failed", 2);
    let failure = ran.verdict["failure"].as_str().expect("a failure");
    assert!(failure.contains("STATUS_CONNECTION_REFUSED (0xc0000236)"), "{failure}");
}

#[test]
fn text_figure_is_printed_when_the_account_is_not() {
    let image = scenario::sample("hello.sys");
    let output = drydock(&["run", image.to_str().expect("text"), "--quiet", "--text-figure"]);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.starts_with("What hello did"), "{stdout}");
    assert!(!stdout.contains("I/O manager     calls"), "{stdout}");
}

#[test]
fn status_of_a_test_run_is_the_greatest_of_its_scenarios() {
    let folder = scenario::folder("statuses");
    let image = scenario::sample("hello.sys");
    let write = |name: &str, rest: &str| {
        let file = folder.join(name);
        fs::write(&file, format!("drivers = ['{}']\n{rest}", image.display())).expect("a scenario");
        file.to_str().expect("text").to_owned()
    };
    let good = write("good.toml", "");
    let differs = write("differs.toml", "[expect]\nverdict = \"bugcheck\"\n");
    let wrong = write("wrong.toml", "[set]\nPort = -1\n");
    for (files, status) in [(vec![&good], 0), (vec![&good, &differs], 1), (vec![&wrong, &differs, &good], 64)] {
        let mut arguments = vec!["test"];
        arguments.extend(files.iter().map(|file| file.as_str()));
        let output = drydock(&arguments);
        assert_eq!(output.status.code(), Some(status), "{output:?}");
    }
    let output = drydock(&["test", &good, "--junit", "/no/such/folder/results.xml"]);
    assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(2), true), "{output:?}");
    let output = drydock(&["test", &wrong]);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("expected text in quotes, or a whole number") && !stdout.contains("untagged"), "{stdout}");
}

#[test]
fn scenario_that_expects_a_bugcheck_passes_if_its_last_step_meets_it() {
    let image = scenario::sample("crashing.sys");
    let crash = "[[step]]\nioctl = 0x22200C\ndevice = '\\Device\\Crashing'\n";
    let wait = "[[step]]\nwait = 0\n";
    let test = |name: &str, steps: &str| {
        let folder = scenario::folder(name);
        let text = format!("drivers = ['{}']\nnet = 'none'\n{steps}[expect]\nverdict = 'bugcheck'\n", image.display());
        fs::write(folder.join("crash.toml"), text).expect("a scenario");
        drydock(&["test", folder.to_str().expect("text")])
    };
    let output = test("expected-bugcheck", &format!("{wait}{crash}"));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let output = test("unexpected-bugcheck", &format!("{crash}{wait}"));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("the step of line 6 was not carried out"), "{stdout}");
}

#[test]
fn verdict_has_the_promised_keys() {
    let observer = Observer::answering(ANSWER.into(), After::Release);
    let ran = Run::client(observer.address).run().expect_clean();
    let Value::Object(verdict) = &ran.verdict else { panic!("no object: {}", ran.verdict) };
    for key in ["verdict", "findings", "counts", "actions", "bugcheck", "failure", "events_lost"] {
        assert!(verdict.contains_key(key), "{key} is missing: {}", ran.verdict);
    }
    for key in ["opens", "cleanups", "closes", "irps", "bytes_sent", "bytes_received"] {
        assert!(ran.count(key) > 0, "{key}: {}", ran.verdict);
    }
    assert_eq!(ran.count("bytes_received"), ANSWER.len() as u64);
}

#[test]
fn ioctls_are_answered_in_their_order() {
    let ran = Run::sample("hello.sys")
        .args(["--ioctl", r"\Device\Hello", "0x222000", "--in", "68656c6c6f"])
        .args(["--ioctl", r"\??\Hello", "0x22200B", "--in", "010203"])
        .args(["--ioctl", r"\Device\Hello", "0x22FFFC"])
        .args(["--ioctl", r"\Device\Nobody", "0x222000"])
        .run()
        .expect_clean();
    let answer = |index: usize| &ran.verdict["actions"][index];
    assert_eq!((&answer(0)["status"], &answer(0)["out"]), (&0.into(), &"6f6c6c6568".into()), "{ran:#?}");
    assert_eq!((&answer(1)["status"], &answer(1)["out"]), (&0.into(), &"06000000".into()), "{ran:#?}");
    assert_eq!(answer(2)["status"], 0xC000_0010_u32, "{ran:#?}");
    assert_eq!(answer(3)["status"], 0xC000_0034_u32, "{ran:#?}");
}

#[test]
fn figure_shows_all_lifelines_and_what_the_remote_node_was_told() {
    let observer = Observer::answering(ANSWER.into(), After::Release);
    let file = scenario::folder("figure").join("close.svg");
    Run::client(observer.address).set("Close", "no-disconnect").arg("--figure").arg(&file).run().expect_clean();
    let svg = fs::read_to_string(file).expect("the figure");
    for text in [
        "tdi_client",
        "I/O manager",
        "transport",
        "remote node",
        "TDI_CONNECT",
        "IRP_MJ_CLEANUP",
        "IRP_MJ_CLOSE",
        "FIN",
    ] {
        assert!(svg.contains(text), "{text} is missing");
    }
    assert!(svg.ends_with("</svg>\n"));
}

#[test]
fn trace_is_one_json_object_a_line_in_order_of_time() {
    let observer = Observer::answering(ANSWER.into(), After::Release);
    let file = scenario::folder("trace").join("run.jsonl");
    let ran = Run::client(observer.address).arg("--trace").arg(&file).run().expect_clean();
    let text = fs::read_to_string(file).expect("the trace");
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let times: Vec<u64> = events.iter().map(|event| event["t"].as_u64().expect("a time")).collect();
    assert!(times.is_sorted());
    let of = |name: &str| events.iter().filter(|event| event["event"] == name).count() as u64;
    assert_eq!((of("RunStarted"), of("RunEnded")), (1, 1));
    assert_eq!(of("FileOpened"), ran.count("opens"));
    assert_eq!(of("RemoteTold"), 1);
    assert_eq!(ran.verdict["events_lost"], 0);
}

#[test]
fn outputs_that_cannot_be_written_are_refused_before_the_run() {
    let hello = scenario::sample("hello.sys").into_os_string().into_string().expect("a path that is text");
    let ran = drydock(&["run", &hello, "--figure", "/no/such/folder/close.svg"]);
    let stderr = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("/no/such/folder/close.svg"), "{stderr}");
    let ran = drydock(&["run", &hello, "--crash-dir", "/no/such/folder"]);
    let stderr = String::from_utf8_lossy(&ran.stderr);
    assert_eq!((ran.status.code(), stderr.contains("/no/such/folder")), (Some(2), true), "{stderr}");
}

#[test]
fn account_goes_to_stdout_without_json_and_nowhere_when_quiet() {
    let image = scenario::sample("hello.sys");
    let image = image.to_str().expect("a name in UTF-8");
    let loud = drydock(&["run", image]);
    let stdout = String::from_utf8_lossy(&loud.stdout);
    assert_eq!(loud.status.code(), Some(0), "{stdout}");
    assert!(stdout.contains("calls DriverEntry of hello"), "{stdout}");
    assert!(stdout.lines().last().expect("a verdict").starts_with("verdict  clean"), "{stdout}");
    let quiet = drydock(&["run", image, "--quiet"]);
    assert_eq!(String::from_utf8_lossy(&quiet.stdout).lines().count(), 1);
}
