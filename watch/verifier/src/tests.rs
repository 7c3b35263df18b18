use proves::proves;
use trace::{Farewell, OpenKind, STATUS_PENDING, STATUS_UNHANDLED_EXCEPTION};

use super::*;

const CREATE: Functions = Functions::new(0x00, 0);
const CLOSE: Functions = Functions::new(0x02, 0);
const CLEANUP: Functions = Functions::new(0x12, 0);
const RECEIVE: Functions = Functions::new(0x0F, 0x08);
/// The dispatch routine of all requests, in `server.sys` where that is loaded.
const ROUTINE: u64 = 0x5010;
const CANCELLED: u32 = 0xC000_0120;

fn name(functions: u32) -> String {
    format!("function {functions:#06x}")
}

/// A run in the making: each call adds what would have been recorded.
#[derive(Default)]
struct Run {
    records: Vec<Record>,
    thread: u16,
}

impl Run {
    fn event(mut self, event: Event) -> Self {
        let time_ns = self.records.len() as u64;
        self.records.push(Record { time_ns, thread: self.thread, event, text: String::new() });
        self
    }

    fn say(mut self, event: Event, text: &str) -> Self {
        self = self.event(event);
        self.records.last_mut().expect("just added").text = text.into();
        self
    }

    fn on(mut self, thread: u16) -> Self {
        self.thread = thread;
        self
    }

    fn dispatch(self, irp: u64, file: u64, functions: Functions) -> Self {
        self.event(Event::IrpDispatched {
            irp,
            device: 0xD0,
            file,
            functions: functions.0,
            detail: 0,
            routine: ROUTINE,
        })
    }

    fn complete(self, irp: u64, status: u32) -> Self {
        self.event(Event::IrpCompleted { irp, status, information: 0 })
    }

    fn complete_later(self, irp: u64, status: u32) -> Self {
        self.event(Event::IrpCompletedLater { irp, status, information: 0 })
    }

    fn returns(self, irp: u64, status: u32) -> Self {
        self.event(Event::IrpReturned { irp, status })
    }

    /// A request that is over when its dispatch routine returns.
    fn request(self, file: u64, functions: Functions) -> Self {
        let irp = 0x9000;
        self.dispatch(irp, file, functions).complete(irp, 0).returns(irp, 0)
    }

    fn open(self, file: u64, kind: OpenKind) -> Self {
        self.request(file, CREATE).event(Event::FileOpened { file, device: 0xD0, handle: 4, status: 0, kind })
    }

    fn endpoint(self, file: u64) -> Self {
        self.open(file, OpenKind::ConnectionEndpoint)
    }

    fn indicate(self, endpoint: u64) -> Self {
        self.event(Event::Indicated { endpoint, event: 3, context: 0, bytes: 1 }).event(Event::IndicationReturned {
            endpoint,
            status: 0,
            taken: 1,
        })
    }

    /// A gap in the ring of one thread; `meanwhile` is what other rings tell.
    fn lose_while(self, count: u64, meanwhile: impl FnOnce(Self) -> Self) -> Self {
        meanwhile(self.event(Event::EventsLost { count })).event(Event::EventsResumed {})
    }

    fn lose(self, count: u64) -> Self {
        self.lose_while(count, |run| run)
    }

    fn rules(&self) -> Vec<&'static str> {
        verify(&self.records, name, 0, true).findings.into_iter().map(|finding| finding.rule).collect()
    }

    #[track_caller]
    fn breaks(self, rules: &[&'static str]) {
        assert_eq!(self.rules(), rules, "{:#?}", verify(&self.records, name, 0, true));
    }
}

#[test]
fn whole_life_of_an_endpoint_is_clean() {
    let run = Run::default().endpoint(1).dispatch(7, 1, RECEIVE).returns(7, STATUS_PENDING).indicate(1);
    let run = run.dispatch(8, 1, CLEANUP).event(Event::RemoteTold { endpoint: 1, farewell: Farewell::Fin });
    let run = run.complete_later(7, CANCELLED).complete(8, 0).returns(8, 0);
    let run = run.request(1, CLOSE).event(Event::FileDeleted { file: 1 });
    // The address is used again.
    run.endpoint(1).indicate(1).request(1, CLEANUP).request(1, CLOSE).event(Event::FileDeleted { file: 1 }).breaks(&[]);
}

#[test]
fn second_cleanup_is_found() {
    Run::default().endpoint(1).request(1, CLEANUP).request(1, CLEANUP).request(1, CLOSE).breaks(&["C-133"]);
}

#[test]
fn second_cleanup_for_a_handle_made_from_the_pointer_is_legal() {
    let close = Event::HandleClosed { handle: 4, object: 1, remaining: 0 };
    let run = || Run::default().endpoint(1).event(close).request(1, CLEANUP).event(close).request(1, CLEANUP);
    run().request(1, CLOSE).breaks(&[]);
    run().request(1, CLEANUP).request(1, CLOSE).breaks(&["C-133"]);
    // The account of another thread may stand in front of the first cleanup, and of the file.
    let run = Run::default().on(2).event(close).on(0).endpoint(1).event(close).request(1, CLEANUP);
    run.on(2).request(1, CLEANUP).request(1, CLOSE).breaks(&[]);
}

#[test]
fn second_close_is_found() {
    Run::default().endpoint(1).request(1, CLEANUP).request(1, CLOSE).request(1, CLOSE).breaks(&["C-134"]);
}

#[test]
fn close_before_cleanup_is_found_and_so_is_cleanup_after_close() {
    Run::default().endpoint(1).request(1, CLOSE).request(1, CLEANUP).breaks(&["C-135", "C-135"]);
}

#[test]
fn deletion_without_close_is_found() {
    Run::default().endpoint(1).request(1, CLEANUP).event(Event::FileDeleted { file: 1 }).breaks(&["C-134"]);
}

#[test]
fn cleanup_and_close_after_a_failed_open_are_found() {
    let failed = || Run::default().dispatch(5, 1, CREATE).complete(5, 0xC000_000D).returns(5, 0xC000_000D);
    failed().event(Event::FileDeleted { file: 1 }).breaks(&[]);
    failed().request(1, CLEANUP).request(1, CLOSE).breaks(&["C-081", "C-081"]);
}

#[test]
fn request_passed_down_the_stack_is_one_request() {
    let run = Run::default().endpoint(1);
    let run = run.dispatch(8, 1, CLEANUP).dispatch(8, 1, CLEANUP).complete(8, 0).returns(8, 0).returns(8, 0);
    run.request(1, CLOSE).breaks(&[]);
}

#[test]
fn indication_after_cleanup_is_found_for_endpoint_and_address() {
    Run::default().endpoint(1).request(1, CLEANUP).indicate(1).request(1, CLOSE).breaks(&["C-163"]);
    Run::default().open(1, OpenKind::TransportAddress).request(1, CLEANUP).indicate(1).breaks(&["C-162"]);
}

#[test]
fn indication_before_the_cleanup_is_known_to_be_over_is_allowed() {
    // Thread 2's completion is unstamped: in truth thread 3's indication may have come before it.
    let run = Run::default().on(2).endpoint(1).dispatch(8, 1, CLEANUP).complete(8, 0).on(3).indicate(1);
    run.on(2).returns(8, 0).request(1, CLOSE).breaks(&[]);
}

#[test]
fn indication_on_another_thread_after_proof_of_cleanup_is_found() {
    let run = Run::default().on(2).endpoint(1).dispatch(8, 1, CLEANUP).complete(8, 0).returns(8, 0);
    run.event(Event::HostNote {}).on(3).indicate(1).breaks(&["C-163"]);
}

#[test]
fn cleanup_completed_later_is_proof_at_once() {
    let run = Run::default().on(2).endpoint(1).dispatch(8, 1, CLEANUP).returns(8, STATUS_PENDING);
    run.on(4).complete_later(8, 0).on(3).indicate(1).breaks(&["C-163"]);
}

#[test]
fn request_that_outlives_the_cleanup_of_its_endpoint_is_found() {
    let run = Run::default().endpoint(1).dispatch(7, 1, RECEIVE).returns(7, STATUS_PENDING);
    let run = run.request(1, CLEANUP).event(Event::HostNote {}).complete_later(7, CANCELLED);
    run.request(1, CLOSE).breaks(&["C-160"]);
}

#[test]
fn every_request_that_outlives_the_cleanup_is_found_and_none_of_another_file() {
    let run = Run::default().endpoint(1).endpoint(2);
    let run = [(7, 1), (8, 2), (9, 1)]
        .into_iter()
        .fold(run, |run, (irp, file)| run.dispatch(irp, file, RECEIVE).returns(irp, STATUS_PENDING));
    let run = run.request(1, CLEANUP).event(Event::HostNote {});
    let run = [7, 8, 9].into_iter().fold(run, |run, irp| run.complete_later(irp, CANCELLED));
    run.request(1, CLOSE).request(2, CLEANUP).request(2, CLOSE).breaks(&["C-160", "C-160"]);
}

#[test]
fn packet_that_nobody_completed_for_one_file_and_that_went_to_another_outlives_no_cleanup() {
    let run = Run::default().endpoint(1).endpoint(2).dispatch(7, 1, RECEIVE).returns(7, CANCELLED);
    let run = run.dispatch(7, 2, RECEIVE).returns(7, STATUS_PENDING).request(1, CLEANUP).event(Event::HostNote {});
    // That nobody completed it the first time is another finding.
    run.complete_later(7, 0).request(1, CLOSE).breaks(&["K-047"]);
}

#[test]
fn request_on_its_way_through_a_filter_while_its_file_is_closed_is_nobody_s_fault() {
    let run = two_drivers().endpoint(1).on(1).dispatch(7, 1, RECEIVE);
    let run = run.on(2).request(1, CLEANUP).event(Event::HostNote {});
    let run = run.on(1).dispatch(7, 1, RECEIVE).complete(7, CANCELLED).returns(7, CANCELLED).returns(7, CANCELLED);
    run.on(2).request(1, CLOSE).breaks(&[]);
    // One that it keeps is its fault.
    let run = two_drivers().endpoint(1).on(1).dispatch(7, 1, RECEIVE).returns(7, STATUS_PENDING);
    let run = run.on(2).request(1, CLEANUP).event(Event::HostNote {}).complete_later(7, CANCELLED);
    assert_blamed(&run.request(1, CLOSE), "C-160", "server.sys");
}

#[proves("D-290")]
#[test]
fn filter_that_fails_an_open_which_had_succeeded_below_is_named() {
    const DENIED: u32 = 0xC000_0022;
    let below = Event::IrpDispatched { irp: 7, device: 0xD1, file: 1, functions: CREATE.0, detail: 0, routine: 0 };
    let run = || two_drivers().dispatch(7, 1, CREATE).event(below);
    let failed = run().complete(7, 0).returns(7, 0).complete(7, DENIED).returns(7, DENIED);
    assert_blamed(&failed, "D-290", "server.sys");
    run().complete(7, DENIED).returns(7, DENIED).complete(7, DENIED).returns(7, DENIED).breaks(&[]);
    run().complete(7, 0).returns(7, 0).complete(7, 0).returns(7, 0).breaks(&[]);
}

#[test]
fn request_sent_after_cleanup_began_may_outlive_it() {
    let run = Run::default().endpoint(1).dispatch(8, 1, CLEANUP).on(2).dispatch(7, 1, RECEIVE).on(0);
    let run =
        run.complete(8, 0).returns(8, 0).event(Event::HostNote {}).on(2).complete(7, CANCELLED).returns(7, CANCELLED);
    run.on(0).request(1, CLOSE).breaks(&[]);
}

#[test]
fn request_on_a_device_that_is_no_transport_may_outlive_cleanup() {
    let run = Run::default().open(1, OpenKind::Device).dispatch(7, 1, RECEIVE).returns(7, STATUS_PENDING);
    run.request(1, CLEANUP).event(Event::HostNote {}).complete_later(7, CANCELLED).breaks(&[]);
}

#[test]
fn request_after_close_is_found() {
    Run::default().endpoint(1).request(1, CLEANUP).request(1, CLOSE).request(1, RECEIVE).breaks(&["C-172"]);
}

#[test]
fn remote_node_told_only_after_close_is_found() {
    let told = Event::RemoteTold { endpoint: 1, farewell: Farewell::Rst };
    Run::default().endpoint(1).request(1, CLEANUP).request(1, CLOSE).event(told).breaks(&["C-171"]);
}

#[test]
fn completion_of_a_packet_that_was_never_sent_says_nothing_of_the_one_before_at_its_address() {
    let over = || Run::default().on(1).dispatch(7, 1, RECEIVE).complete(7, 0).returns(7, 0);
    over().complete(7, 0).breaks(&[]);
    over().on(2).complete(7, 0).breaks(&[]);
    over().complete_later(7, 0).breaks(&[]);
    // Made by the completion routine of the packet that it follows.
    Run::default().dispatch(7, 1, RECEIVE).complete(7, 0).complete(7, 0).returns(7, 0).breaks(&[]);
    // A packet that is sent at that address afterwards is judged for itself.
    over().complete(7, 0).dispatch(7, 1, RECEIVE).returns(7, CANCELLED).breaks(&["K-047"]);
    over().complete(7, 0).dispatch(7, 1, RECEIVE).returns(7, STATUS_PENDING).breaks(&["K-102"]);
}

#[test]
fn irp_that_is_sent_again_is_completed_again() {
    let run = Run::default().dispatch(7, 1, RECEIVE).complete(7, 0).returns(7, 0);
    run.dispatch(7, 1, RECEIVE).returns(7, STATUS_PENDING).complete_later(7, 0).breaks(&[]);
}

#[test]
fn completion_taken_back_by_a_filter_is_followed_by_its_own() {
    let run = Run::default().dispatch(7, 1, RECEIVE).dispatch(7, 1, RECEIVE).complete(7, 0).returns(7, 0);
    run.complete(7, 0).returns(7, 0).breaks(&[]);
}

#[test]
fn completion_that_seems_to_precede_its_dispatch_is_no_second_one() {
    // Thread 2 completes what thread 1 sends again, but its unstamped event stands in front of that dispatch.
    let run = Run::default().on(1).dispatch(7, 1, RECEIVE).complete(7, 0).returns(7, 0);
    run.on(2).complete(7, 0).on(1).dispatch(7, 1, RECEIVE).returns(7, 0).breaks(&[]);
}

#[test]
fn cleanup_of_a_file_is_no_cleanup_of_the_next_at_its_address() {
    // Thread 1 is busy after its ZwClose, while thread 2 drops the last reference and opens another file.
    let cleaned = |run: Run| run.on(1).dispatch(8, 1, CLEANUP).complete(8, 0).returns(8, 0);
    let again = |run: Run| run.on(2).request(1, CLOSE).event(Event::FileDeleted { file: 1 }).endpoint(1);
    let run = again(cleaned(Run::default().endpoint(1)));
    run.on(1).event(Event::HostNote {}).on(2).indicate(1).request(1, CLEANUP).request(1, CLOSE).breaks(&[]);
    // What the first cleanup left is found when the address is used again.
    let run = cleaned(Run::default().endpoint(1).on(3).dispatch(7, 1, RECEIVE).returns(7, STATUS_PENDING));
    again(run).on(3).complete_later(7, CANCELLED).breaks(&["C-160"]);
}

#[test]
fn packet_that_is_sent_anew_before_its_first_dispatch_has_returned_is_another_request() {
    // A completion routine on thread 2 frees the packet; file 1 is cleaned up and closed with it, while thread 1 is still
    // on its way out of the dispatch routine.
    let run = Run::default().endpoint(1).on(1).dispatch(9, 2, RECEIVE).on(2).complete_later(9, 0);
    let sent = |run: Run, functions| run.on(2).dispatch(9, 1, functions).complete(9, 0).returns(9, 0);
    let closed = sent(sent(run, CLEANUP), CLOSE).event(Event::FileDeleted { file: 1 });
    closed.on(1).returns(9, STATUS_PENDING).breaks(&[]);
    // The first return is not that of the second.
    let run = Run::default().on(1).dispatch(9, 2, RECEIVE).on(2).complete_later(9, 0);
    let run = run.on(3).dispatch(9, 1, RECEIVE).on(1).returns(9, STATUS_PENDING);
    run.on(3).complete(9, CANCELLED).returns(9, CANCELLED).breaks(&[]);
}

#[test]
fn completion_that_stands_in_front_of_its_dispatch_completes_it() {
    let sent = |run: Run| run.on(1).dispatch(7, 1, RECEIVE).returns(7, STATUS_PENDING);
    let cleaned = |run: Run| run.request(1, CLEANUP).event(Event::HostNote {}).request(1, CLOSE);
    // Nothing was known at that address.
    cleaned(sent(Run::default().endpoint(1).on(2).complete(7, 0))).breaks(&[]);
    // The thread that completes is the one that sent the packet before, through a filter that left its location (one completion for
    // two dispatches) or without.
    let before = || Run::default().endpoint(1).on(2).dispatch(7, 1, RECEIVE);
    cleaned(sent(before().complete(7, 0).returns(7, 0).complete(7, 0))).breaks(&[]);
    let filtered = before().dispatch(7, 1, RECEIVE).complete(7, 0).returns(7, 0).returns(7, 0);
    cleaned(sent(filtered.complete(7, CANCELLED))).breaks(&[]);
    // The packet before has not been completed yet, and is after that; no cleanup is over, and no mark is missing by it.
    let control = Functions::new(0x0E, 0);
    let run = Run::default().endpoint(1).on(1).dispatch(7, 0, control).returns(7, STATUS_PENDING).on(2).complete(7, 0);
    cleaned(sent(run.on(3).complete_later(7, 0))).breaks(&[]);
    let run = Run::default().endpoint(1).on(3).dispatch(8, 1, RECEIVE).returns(8, STATUS_PENDING);
    let run =
        run.on(1).dispatch(7, 1, CLEANUP).on(2).complete(7, 0).event(Event::HostNote {}).on(3).complete_later(8, 0);
    run.on(4).complete_later(7, 0).on(1).returns(7, STATUS_PENDING).request(1, CLOSE).breaks(&[]);
    // After a stamped event of its thread it was that of something else.
    cleaned(sent(Run::default().endpoint(1).on(2).complete(7, 0).event(Event::HostNote {})))
        .breaks(&["C-160", "K-102"]);
}

#[test]
fn request_that_is_passed_on_by_who_completed_the_one_before_is_one_request() {
    // A filter's thread passes on what the filter has marked pending: first the cleanup, then the close, by the same packet.
    let pends = |run: Run, functions| run.on(1).dispatch(7, 1, functions).returns(7, STATUS_PENDING);
    let passed = |run: Run, functions| run.on(2).dispatch(7, 1, functions).complete(7, 0).returns(7, 0);
    let cleaned = passed(pends(Run::default().endpoint(1), CLEANUP), CLEANUP);
    passed(pends(cleaned, CLOSE), CLOSE).event(Event::FileDeleted { file: 1 }).breaks(&[]);
}

#[test]
fn open_whose_packet_is_completed_for_another_later_has_not_failed() {
    // Through a filter that left its location: one completion for two dispatches.
    let run = Run::default().on(2).dispatch(7, 1, CREATE).dispatch(7, 1, CREATE).complete(7, 0).returns(7, 0);
    let run = run.returns(7, 0).complete(7, CANCELLED).on(1).dispatch(7, 2, RECEIVE);
    run.returns(7, STATUS_PENDING).breaks(&[]);
}

#[test]
fn completion_that_stands_in_a_gap_may_be_that_of_a_dispatch_behind_it() {
    let pended = |run: Run| run.on(1).dispatch(7, 1, RECEIVE).returns(7, STATUS_PENDING);
    let lost = |meanwhile: fn(Run) -> Run| Run::default().on(1).lose_while(3, |run| meanwhile(run).on(1));
    pended(lost(|run| run.on(2).complete(7, 0))).breaks(&[]);
    pended(lost(|run| run.on(2).complete(7, 0).event(Event::HostNote {}))).breaks(&["K-102"]);
    // It may be missing itself, until its thread records a stamped event.
    pended(Run::default().on(2).lose(3)).breaks(&[]);
    pended(Run::default().on(2).lose(3).event(Event::HostNote {})).breaks(&["K-102"]);
}

#[test]
fn completion_with_pending_is_found() {
    let run = Run::default().dispatch(7, 1, RECEIVE).complete(7, STATUS_PENDING).returns(7, STATUS_PENDING);
    run.breaks(&["K-054"]);
}

#[test]
fn dispatch_routine_that_neither_completes_nor_pends_is_found() {
    Run::default().dispatch(7, 1, RECEIVE).returns(7, 0).breaks(&["K-047"]);
    // ... also when the IRP is used again.
    Run::default()
        .dispatch(7, 1, RECEIVE)
        .returns(7, 0)
        .dispatch(7, 1, RECEIVE)
        .complete(7, 0)
        .returns(7, 0)
        .breaks(&["K-047"]);
}

#[test]
fn completion_by_another_thread_may_stand_behind_the_return() {
    let run = Run::default().on(1).dispatch(7, 1, RECEIVE).returns(7, 0);
    run.on(2).event(Event::HostNote {}).complete(7, 0).breaks(&[]);
}

#[test]
fn dispatch_routine_that_returns_another_status_than_it_completed_with_is_found() {
    Run::default().dispatch(7, 1, RECEIVE).complete(7, CANCELLED).returns(7, 0).breaks(&["K-047"]);
    Run::default().dispatch(7, 1, RECEIVE).complete(7, CANCELLED).returns(7, STATUS_PENDING).breaks(&[]);
}

#[test]
fn nothing_is_found_in_the_return_of_a_routine_that_an_exception_passed() {
    let passed = |run: Run| run.returns(7, STATUS_UNHANDLED_EXCEPTION).breaks(&[]);
    passed(Run::default().dispatch(7, 1, RECEIVE));
    passed(Run::default().dispatch(7, 1, RECEIVE).complete(7, 0));
    passed(Run::default().dispatch(7, 1, RECEIVE).complete_later(7, 0));
    // The packet may be sent again by whoever caught it.
    let again = Run::default().dispatch(7, 1, RECEIVE).returns(7, STATUS_UNHANDLED_EXCEPTION);
    passed(again.dispatch(7, 1, RECEIVE).complete(7, 0));
}

#[test]
#[proves("K-055")]
fn pending_mark_and_another_status_is_found() {
    let marked = || Run::default().dispatch(7, 1, RECEIVE).complete_later(7, 0);
    marked().returns(7, 0).breaks(&["K-055"]);
    marked().returns(7, STATUS_PENDING).breaks(&[]);
    // A filter may have marked it for the driver below.
    let run = Run::default().dispatch(7, 1, RECEIVE).dispatch(7, 1, RECEIVE).complete_later(7, 0);
    run.returns(7, 0).returns(7, STATUS_PENDING).breaks(&[]);
}

#[test]
#[proves("K-055")]
fn pending_status_without_the_mark_is_found() {
    const CONTROL: Functions = Functions::new(0x0E, 0);
    let run = |functions| Run::default().on(1).dispatch(7, 1, functions);
    run(CONTROL).complete(7, 0).returns(7, STATUS_PENDING).breaks(&["K-055"]);
    run(CONTROL).returns(7, STATUS_PENDING).on(2).complete(7, 0).breaks(&["K-055"]);
    run(CONTROL).returns(7, STATUS_PENDING).on(2).complete_later(7, 0).breaks(&[]);
    // What an event handler returned was never sent.
    run(RECEIVE).returns(7, STATUS_PENDING).complete(7, 0).breaks(&[]);
}

#[test]
fn request_pending_at_the_end_is_found_unless_the_run_was_cut_short() {
    let run = Run::default().dispatch(7, 1, RECEIVE).returns(7, STATUS_PENDING);
    assert_eq!(run.rules(), ["K-102"]);
    let report = verify(&run.records, name, 0, false);
    assert_eq!((report.findings.len(), report.untold.len()), (0, 1));
}

#[test]
fn dispatch_routine_that_never_returned_is_found() {
    Run::default().dispatch(7, 1, RECEIVE).breaks(&["K-102"]);
}

#[test]
fn nothing_is_concluded_across_lost_events() {
    // Each of these is a finding without the gap.
    Run::default().endpoint(1).request(1, CLEANUP).lose(3).indicate(1).breaks(&[]);
    Run::default().endpoint(1).lose(3).request(1, CLOSE).breaks(&[]);
    Run::default().dispatch(7, 1, RECEIVE).complete(7, 0).lose(3).complete(7, 0).breaks(&[]);
    Run::default().dispatch(7, 1, RECEIVE).returns(7, STATUS_PENDING).lose(3).breaks(&[]);
    // What begins after it is judged.
    // A dispatch between the two completions, or a completion between the two dispatches, may be what is missing.
    let again = |run: Run| run.on(2).complete_later(7, 0).complete_later(7, 0);
    Run::default().on(1).lose_while(3, |run| again(run.dispatch(7, 1, RECEIVE))).breaks(&[]);
    let again = |run: Run| run.dispatch(7, 1, RECEIVE).returns(7, 0).dispatch(7, 1, RECEIVE);
    Run::default().lose_while(3, again).breaks(&[]);
    let run = Run::default().lose(3).endpoint(1).request(1, CLEANUP).indicate(1);
    assert_eq!(run.rules(), ["C-163"]);
    assert_eq!(verify(&run.records, name, 3, true).untold.len(), 1);
}

#[test]
fn loss_that_no_record_announces_forbids_conclusions_from_silence() {
    let run = Run::default().dispatch(7, 1, RECEIVE).returns(7, STATUS_PENDING);
    assert_eq!(verify(&run.records, name, 1, true).findings, []);
}

#[test]
fn findings_are_bounded() {
    let run = (0..1000).fold(Run::default().endpoint(1), |run, _| run.request(1, CLEANUP));
    let report = verify(&run.records, name, 0, true);
    assert_eq!(report.findings.len(), FINDINGS_MAX);
    assert_eq!(report.untold, [format!("{} more findings are not listed", 999 - FINDINGS_MAX)]);
}

#[test]
fn finding_names_object_and_event() {
    let run = Run::default().endpoint(0x77).request(0x77, CLEANUP).request(0x77, CLEANUP);
    let report = verify(&run.records, name, 0, true);
    assert_eq!(
        report.findings,
        [Finding {
            rule: "C-133",
            message: "a second IRP_MJ_CLEANUP for connection endpoint 0x77".into(),
            driver: String::new(),
            offset: None,
            event: Some(7),
        }]
    );
}

#[test]
fn cleanup_while_handles_are_open_is_found() {
    let close = |remaining| Event::HandleClosed { handle: 4, object: 1, remaining };
    Run::default().endpoint(1).event(close(1)).event(close(0)).request(1, CLEANUP).request(1, CLOSE).breaks(&[]);
    Run::default().endpoint(1).event(close(1)).request(1, CLEANUP).request(1, CLOSE).breaks(&["C-139"]);
    // What another thread says of its handle may stand too late: nothing is concluded.
    Run::default().endpoint(1).on(2).event(close(1)).on(3).request(1, CLEANUP).request(1, CLOSE).breaks(&[]);
}

#[test]
fn handler_that_outlives_the_cleanup_is_found() {
    let indicated = Event::Indicated { endpoint: 1, event: 3, context: 0, bytes: 1 };
    let returned = Event::IndicationReturned { endpoint: 1, status: 0, taken: 1 };
    let run = || Run::default().endpoint(1).on(2).event(indicated);
    let end = |run: Run| run.on(1).dispatch(8, 1, CLEANUP).complete(8, 0).returns(8, 0).event(Event::HostNote {});
    end(run().event(returned)).breaks(&[]);
    end(run()).on(2).event(returned).breaks(&["C-569"]);
    // A handler that closes its own endpoint cannot be waited for.
    run().request(1, CLEANUP).event(Event::HostNote {}).event(returned).breaks(&[]);
}

/// Two drivers: `client.sys`, and `server.sys` behind device 0xD0.
fn two_drivers() -> Run {
    let run = Run::default().say(Event::ImageLoaded { base: 0x5000, size: 0x1000, driver: 0x51 }, "server.sys");
    let run = run.say(Event::DriverEntryCalled { driver: 0x51 }, "server.sys");
    let run = run.event(Event::DeviceCreated { device: 0xD0, driver: 0x51 });
    let run = run.event(Event::DriverEntryReturned { driver: 0x51, status: 0 });
    run.say(Event::DriverEntryCalled { driver: 0xC1 }, "client.sys")
}

#[track_caller]
fn assert_blamed(run: &Run, rule: &str, driver: &str) {
    let report = verify(&run.records, name, 0, true);
    let found: Vec<_> = report.findings.iter().map(|finding| (finding.rule, finding.driver.as_str())).collect();
    assert_eq!(found, [(rule, driver)], "{report:#?}");
}

#[test]
fn finding_names_the_driver_that_sent_and_the_driver_that_was_to_complete() {
    let run = two_drivers().endpoint(1).request(1, CLEANUP).request(1, CLOSE);
    assert_blamed(&run.request(1, RECEIVE), "C-172", "client.sys");
    assert_blamed(&two_drivers().dispatch(7, 1, RECEIVE).returns(7, 0), "K-047", "server.sys");
    assert_blamed(&two_drivers().dispatch(7, 1, RECEIVE).returns(7, STATUS_PENDING), "K-102", "server.sys");
    let pending = two_drivers().dispatch(7, 1, RECEIVE).complete(7, STATUS_PENDING).returns(7, STATUS_PENDING);
    assert_blamed(&pending, "K-054", "server.sys");
}

#[test]
fn finding_about_a_request_has_the_offset_of_its_dispatch_routine() {
    for run in [
        two_drivers().dispatch(7, 1, RECEIVE).returns(7, 0),
        two_drivers().dispatch(7, 1, RECEIVE).returns(7, STATUS_PENDING),
        two_drivers().dispatch(7, 1, RECEIVE).complete(7, STATUS_PENDING).returns(7, STATUS_PENDING),
    ] {
        let report = verify(&run.records, name, 0, true);
        let [finding] = &report.findings[..] else { panic!("{report:#?}") };
        assert_eq!((finding.driver.as_str(), finding.offset), ("server.sys", Some(0x10)), "{report:#?}");
    }
}

#[test]
fn finding_on_a_drivers_own_thread_names_the_image_the_thread_began_in() {
    let run = Run::default().say(Event::ImageLoaded { base: 0x1000, size: 0x1000, driver: 0 }, "client.sys");
    let run = run.endpoint(1).request(1, CLEANUP).request(1, CLOSE);
    let run = run.on(3).event(Event::ThreadStarted { thread: 1, start: 0x1FFF }).request(1, RECEIVE);
    assert_blamed(&run, "C-172", "client.sys");
}

proptest::proptest! {
    #[test]
    fn made_up_events_never_harm_the_verifier(
        events in proptest::collection::vec((0u16..100, [0u64..5, 0..5, 0..5, 0..0x2000, 0..5, 0..5], 0u16..4), 0..300),
        lost in 0u64..3,
    ) {
        let events = events.into_iter().filter_map(|(code, words, thread)| Some((Event::from_words(code, words)?, thread)));
        let run = events.fold(Run::default(), |run, (event, thread)| run.on(thread).event(event));
        let report = verify(&run.records, name, lost, true);
        assert!(report.findings.len() <= FINDINGS_MAX);
    }
}
