//! A host that calls the driver while an exception passes it. In a process of its own, because it changes the host.

use exceptions::{LEFT, call, notes};

#[test]
fn host_may_call_the_driver_while_an_exception_passes_it() {
    exceptions::call_while_leaving("let_go");
    assert_eq!(call("fault_passes_the_host", 0x5000), 0xC000_0005);
    // The destructor's call has an exception of its own and handles it; the first one goes on.
    assert_eq!(notes(), [0, 1, LEFT + 1, 0xC000_0005, 3]);
}
