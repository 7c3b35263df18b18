//! Every case over every network.

use std::collections::BTreeSet;

use net_tests::{Report, World, cases, differences};

fn check(network: &str, world: fn() -> World) {
    let differences = differences();
    let mut wrong = Vec::new();
    for case in cases() {
        let mut report = Report::default();
        (case.run)(&mut world(), &mut report);
        let known = differences.iter().find(|one| one.network == network && one.case == case.name);
        let agrees = report.lines == case.expected;
        match known {
            Some(_) if agrees => wrong.push(format!("{}: listed as different, but it agrees", case.name)),
            Some(known) if report.lines != known.seen => {
                wrong.push(format!("{}: listed {:#?}, seen {:#?}", case.name, known.seen, report.lines));
            }
            None if !agrees => {
                wrong.push(format!("{}: expected {:#?}, seen {:#?}", case.name, case.expected, report.lines));
            }
            Some(_) | None => {}
        }
    }
    assert!(wrong.is_empty(), "{network}:\n{}", wrong.join("\n"));
}

#[test]
fn host_sockets_behave_as_every_network_does_but_for_the_listed_differences() {
    check("host_net", World::host);
}

#[test]
fn simulated_network_behaves_as_every_network_does_but_for_the_listed_differences() {
    check("sim_net", World::simulated);
}

#[test]
fn every_listed_difference_is_of_a_case_and_a_network_and_has_a_reason() {
    let names: BTreeSet<_> = cases().iter().map(|case| case.name).collect();
    assert_eq!(names.len(), cases().len(), "two cases of one name");
    for one in differences() {
        assert!(names.contains(one.case.as_str()), "no case `{}`", one.case);
        assert!(["host_net", "sim_net"].contains(&one.network.as_str()), "no network `{}`", one.network);
        assert!(one.because.len() > 20, "`{}` has no reason", one.case);
    }
}
