//! Drydock as a library: a dock, its drivers, its network, its verdict.
//!
//! ```no_run
//! # fn main() -> Result<(), drydock::DockError> {
//! drydock::host_entry(); // first thing in main: the child starts here
//! let verdict = drydock::Dock::new().set("Port", "8080").load("tdi_client.sys").figure("close.svg").run()?;
//! println!("{}", verdict.outcome);
//! # Ok(()) }
//! ```
//!
//! A run happens in a child process, the same executable started again; [`host_entry`] is where that child
//! turns off from the program's own `main`. The supervisor side ([`Dock::run`]) never runs driver code.

mod child;
mod debugger;
mod dock;
mod error;
mod frames;
mod host;
mod inspection;
mod judge;
mod limit;
mod message;
mod names;
mod outputs;
mod places;
mod plan;
mod scenario;
mod stop;
mod supervisor;
mod symbol_reader;
mod verdict;

pub use dock::Dock;
pub use error::DockError;
pub use host::host_entry;
pub use inspect::{Report, Verdict as InspectionVerdict};
pub use inspection::{inspect, inspection_json};
pub use plan::{Action, Network, NetworkDescription, NetworkError, Setting, Target, Value, device_name};
pub use scenario::{Expectations, Scenario, ScenarioError};
pub use stop::{report_file_size_limit, stop_runs_on_signals, stop_signal};
pub use trace::printable;
pub use verdict::{ActionResult, Bugcheck, Counts, Finding, Outcome, Verdict};
