use super::*;
use proptest::prelude::*;

const WHOLE: &str = r#"
seed = 7

[default_link]
latency = "5ms"
loss = "1%"

[[host]]
name = "client"
address = ["10.0.0.1", "fd00::1/48"]
driver = "tdi_client.sys"
send_buffer = "8KiB"

[[host]]
name = "server"
address = ["10.0.0.2/8"]
connect_timeout = "3s"

[[host]]
name = "spare"
address = ["10.0.0.3"]

[[link]]
between = ["server", "client"]
latency = "20ms"
jitter = "2ms"
duplicate = 0.5
reorder = 0.25
reorder_delay = "30ms"
bandwidth = "10mbit"
queue = 65536
mtu = 1400

[[fault]]
at = "5s"
until = "10s"
partition = ["server"]

[[fault]]
at = "1s"
link = ["client", "server"]
loss = 1.0

[[fault]]
at = "2s"
crash = "spare"

[[peer]]
host = "server"
kind = "echo"
port = 7

[[peer]]
host = "server"
kind = "echo"
protocol = "udp"
port = 7

[[peer]]
host = "server"
kind = "http"
port = 80
files = { "/" = "hello", "/big" = 1000000 }

[[peer]]
host = "spare"
kind = "client"
to = "10.0.0.1:9"
at = "1s"
count = 3
text = "knock"
then = "reset"
"#;

#[test]
fn whole_file_is_understood() {
    let network = NetworkFile::parse(WHOLE).unwrap();
    assert_eq!(network.seed(), Some(7));
    assert_eq!(network.hosts().collect::<Vec<_>>(), ["client", "server", "spare"]);
    assert_eq!(network.hosts[0].limits.send_buffer, 8192);
    assert_eq!(network.hosts[0].addresses[1], ("fd00::1".parse().unwrap(), 48));
    assert_eq!(network.hosts[1].limits.connect_timeout, Duration::from_secs(3));
    let link = network.links[pair(3, 0, 1)];
    assert_eq!((link.latency, link.loss, link.mtu), (Duration::from_millis(20), 0.01, 1400));
    assert_eq!(network.links[pair(3, 2, 1)].latency, Duration::from_millis(5));
    let FaultKind::Link { link: faulty, change } = &network.faults[1].what else { panic!() };
    assert_eq!((*faulty, change), (pair(3, 0, 1), &LinkChange { loss: Some(1.0), ..LinkChange::default() }));
    assert_eq!(network.peers.len(), 4);
}

#[test]
fn driver_runs_where_it_is_named_or_else_on_the_first_host_without_one() {
    let network = NetworkFile::parse(WHOLE).unwrap();
    assert_eq!(network.host_of_driver("tdi_client.sys"), "client");
    assert_eq!(network.host_of_driver("other.sys"), "server");
}

#[test]
fn every_pair_of_hosts_has_a_link_of_its_own() {
    for count in 2..=HOSTS_MAX {
        let mut all: Vec<usize> =
            (0..count).flat_map(|high| (0..high).map(move |low| pair(count, high, low))).collect();
        all.sort_unstable();
        assert!(all.iter().copied().eq(0..count * (count - 1) / 2));
    }
}

/// A host that every wrong file below has.
const A: &str = "[[host]]\nname = \"a\"\naddress = [\"10.0.0.1\"]\n";

#[test]
fn mistakes_are_told_with_line_key_and_what_was_expected() {
    let cases = [
        ("", 1, None, "at least one `[[host]]`"),
        ("[[host]]\nname = \"a\"\n", 1, Some("host"), "missing field `address`"),
        ("[[host]]\nname = \"a\"\naddress = []\n", 3, Some("address"), "1 to 6 addresses"),
        ("[[host]]\nname = \"a\"\naddress = [\"127.0.0.1\"]\n", 3, Some("address"), "expected an IP address"),
        ("[[host]]\nname = \"a\"\naddress = [\"10.0.0.1/33\"]\n", 3, Some("address"), "expected an IP address"),
        ("seed = -1\n", 1, Some("seed"), "-1"),
        ("frobnicate = 1\n", 1, Some("frobnicate"), "expected one of `seed`"),
        ("seed = \n", 1, Some("seed"), ""),
        ("[default_link]\nlatency = 20\n", 2, Some("latency"), "a time with its unit"),
        ("[default_link]\nloss = 1.5\n", 2, Some("loss"), "between 0 and 1"),
        ("[default_link]\nbandwidth = \"fast\"\n", 2, Some("bandwidth"), "a rate with its unit"),
    ];
    for (text, line, key, part) in cases {
        let error = NetworkFile::parse(text).unwrap_err();
        assert_eq!((error.line, error.key.as_deref()), (line, key), "{text:?}: {error}");
        assert!(error.message.contains(part), "{text:?}: {error}");
    }
}

#[test]
fn what_does_not_fit_together_is_told_where_it_stands() {
    let cases = [
        ("[[host]]\nname = \"a\"\naddress = [\"10.0.0.9\"]\n", 5, "a second host `a`"),
        ("[[host]]\nname = \"b\"\naddress = [\"10.0.0.1\"]\n", 6, "belongs to a host already"),
        ("[[link]]\nbetween = [\"a\", \"b\"]\n", 5, "no host `b`, expected one of: a"),
        ("[[link]]\nbetween = [\"a\", \"a\"]\n", 5, "names of two hosts"),
        ("[default_link]\nmtu = 100\n", 5, "expected 576 to 65535"),
        ("[[fault]]\nat = \"1s\"\n", 4, "expected one of the keys `partition`, `link` and `crash`"),
        ("[[fault]]\nat = \"2s\"\nuntil = \"1s\"\ncrash = \"a\"\n", 6, "after `at`"),
        ("[[peer]]\nhost = \"a\"\nkind = \"echo\"\n", 4, "no `port`"),
        ("[[peer]]\nhost = \"a\"\nkind = \"parrot\"\nport = 1\n", 6, "expected one of `echo`"),
        ("[[peer]]\nhost = \"a\"\nkind = \"source\"\nport = 1\n", 4, "no `bytes`"),
        ("[[peer]]\nhost = \"a\"\nkind = \"echo\"\nport = 1\nbytes = 3\n", 8, "has no `bytes`"),
        ("[[peer]]\nhost = \"a\"\nkind = \"echo\"\nport = 70000\n", 7, "70000"),
        ("[[peer]]\nhost = \"a\"\nkind = \"client\"\nto = \"b:80\"\n", 7, "an IP address and port"),
        ("[[peer]]\nhost = \"a\"\nkind = \"client\"\nto = \"10.0.0.1:80\"\ncount = 0\n", 8, "0, expected the number"),
        ("[[peer]]\nhost = \"a\"\nkind = \"client\"\nto = \"10.0.0.2:80\"\n", 7, "10.0.0.2, expected one of: 10.0.0.1"),
        ("[[fault]]\nat = \"1s\"\ncrash = \"a\"\nloss = 1.0\n", 4, "expected them beside `link`"),
        ("[[fault]]\nat = \"1s\"\npartition = [\"a\"]\ndown = true\n", 4, "expected them beside `link`"),
        ("[[peer]]\nhost = \"a\"\nkind = \"http\"\nport = 1\nprotocol = \"udp\"\n", 4, "speaks TCP"),
        ("[[peer]]\nhost = \"a\"\nkind = \"http\"\nport = 1\nfiles = { \"x\" = 1 }\n", 8, "begin with a slash"),
    ];
    for (rest, line, part) in cases {
        let error = NetworkFile::parse(&format!("{A}{rest}")).unwrap_err();
        assert_eq!(error.line, line, "{rest:?}: {error}");
        assert!(error.message.contains(part), "{rest:?}: {error}");
    }
    let two = format!("{A}[[host]]\nname = \"b\"\naddress = [\"fd00::2\"]\n");
    let cases = [
        ("[[peer]]\nhost = \"a\"\nkind = \"client\"\nto = \"[fd00::2]:80\"\n", 10, "`a` has no IPv6 address"),
        ("[[fault]]\nat = \"1s\"\nlink = [\"a\", \"b\"]\n", 7, "at least one property"),
        ("[[fault]]\nat = \"1s\"\npartition = [\"b\", \"a\"]\n", 9, "some host is not named"),
        ("[[fault]]\nat = \"1s\"\npartition = [\"b\", \"b\"]\n", 9, "`b` is named twice"),
        ("[[peer]]\nhost = \"b\"\nkind = \"client\"\nto = \"[fd00::2]:80\"\n", 10, "the client's own host"),
        ("[[peer]]\nhost = \"b\"\nkind = \"client\"\nto = \"[::1]:80\"\n", 10, "the client's own host"),
    ];
    for (rest, line, part) in cases {
        let error = NetworkFile::parse(&format!("{two}{rest}")).unwrap_err();
        assert_eq!(error.line, line, "{rest:?}: {error}");
        assert!(error.message.contains(part), "{rest:?}: {error}");
    }
    let twice = "[[peer]]\nhost = \"a\"\nkind = \"echo\"\nport = 7\n";
    let error = NetworkFile::parse(&format!("{A}{twice}{twice}")).unwrap_err();
    assert!(error.message.contains("has port 7 already"), "{error}");
}

#[test]
fn driver_has_one_host() {
    let host = |name: &str, address: &str, driver: &str| {
        format!("[[host]]\nname = \"{name}\"\naddress = [\"{address}\"]\ndriver = \"{driver}\"\n")
    };
    let text = |second: &str| host("a", "10.0.0.1", "x.sys") + &host("b", "10.0.0.2", second);
    assert!(NetworkFile::parse(&text("y.sys")).is_ok());
    let error = NetworkFile::parse(&text("x.sys")).unwrap_err();
    assert_eq!((error.line, error.key.as_deref()), (8, Some("driver")));
    assert!(error.message.contains("`x.sys` runs on host `a` already"), "{error}");
}

#[test]
fn host_has_no_address_that_means_all_hosts() {
    let text = |address: &str| format!("[[host]]\nname = \"a\"\naddress = [\"{address}\"]\n");
    for address in ["10.0.0.255", "10.1.255.255/16", "10.0.0.3/30"] {
        let error = NetworkFile::parse(&text(address)).unwrap_err();
        assert_eq!((error.line, error.key.as_deref()), (3, Some("address")), "{address}");
        assert!(error.message.contains("means all hosts"), "{error}");
    }
    for address in ["10.0.0.255/16", "10.0.0.1/31", "10.0.0.255/32", "fd00::ffff:ffff:ffff:ffff"] {
        assert!(NetworkFile::parse(&text(address)).is_ok(), "{address}");
    }
}

#[test]
fn client_may_call_its_own_host_where_somebody_can_answer() {
    let client = "[[peer]]\nhost = \"b\"\nkind = \"client\"\nto = \"10.0.0.2:80\"\n";
    let b = "[[host]]\nname = \"b\"\naddress = [\"10.0.0.2\"]\n";
    let peer = |port: u16, protocol: &str| {
        format!("[[peer]]\nhost = \"b\"\nkind = \"echo\"\nport = {port}\nprotocol = \"{protocol}\"\n")
    };
    let is_right = |text: String| NetworkFile::parse(&text).is_ok();
    assert!(is_right(format!("{A}{b}{client}{}", peer(80, "tcp"))));
    assert!(is_right(format!("{A}{b}driver = \"x.sys\"\n{client}")));
    // Drivers that no host names run on the first one without a driver.
    assert!(is_right(format!("{b}{A}{client}")));
    assert!(is_right(format!("{A}driver = \"x.sys\"\n{b}{client}")));
    assert!(!is_right(format!("{A}{b}{client}")));
    assert!(!is_right(format!("{A}{b}{client}{}{}", peer(81, "tcp"), peer(80, "udp"))));
}

/// Pieces of network files, to be put together wrongly.
fn piece() -> impl Strategy<Value = String> {
    let lines: Vec<String> = WHOLE.lines().map(str::to_owned).collect();
    prop_oneof![
        4 => proptest::sample::select(lines),
        1 => "[ -~]{0,20}",
        1 => ("[a-z_]{1,9}", "[-+0-9a-z\"\\[\\]{}.]{0,9}").prop_map(|(key, value)| format!("{key} = {value}")),
    ]
}

proptest! {
    #[test]
    fn any_text_is_a_file_or_an_error_with_a_place(text in "\\PC{0,200}") {
        check_place(&text)?;
    }

    #[test]
    fn any_mixture_of_lines_is_a_file_or_an_error_with_a_place(lines in proptest::collection::vec(piece(), 0..40)) {
        check_place(&lines.join("\n"))?;
    }

    #[test]
    fn a_byte_changed_anywhere_is_a_file_or_an_error_with_a_place(at in 0..WHOLE.len(), byte in 0_u8..128) {
        let mut bytes = WHOLE.as_bytes().to_vec();
        bytes[at] = byte;
        check_place(&String::from_utf8(bytes).unwrap())?;
    }
}

fn check_place(text: &str) -> Result<(), TestCaseError> {
    match NetworkFile::parse(text) {
        Ok(network) => prop_assert!(!network.hosts.is_empty()),
        Err(error) => {
            prop_assert!(error.line <= text.matches('\n').count() + 1);
            prop_assert!(error.span.start <= text.len());
            prop_assert!(!error.message.is_empty());
        }
    }
    Ok(())
}
