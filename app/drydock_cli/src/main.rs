//! The `drydock` command.

#![forbid(unsafe_code)]

mod arguments;
mod generate;
mod inspect;
mod run;
mod test;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::arguments::{Arguments, Command};

/// Exit status for wrong use, as sysexits.h has it.
const EX_USAGE: u8 = 64;

fn main() -> ExitCode {
    drydock::host_entry();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version come this way too, and they are no errors.
            let _ = error.print();
            if error.kind() == ErrorKind::InvalidSubcommand {
                complain(format_args!("To run a driver, say 'drydock run DRIVER.sys'."));
            }
            return if error.use_stderr() { ExitCode::from(EX_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    drydock::report_file_size_limit();
    if let Err(error) = drydock::stop_runs_on_signals() {
        complain(format_args!("drydock: Ctrl-C will lose what happened: {error}"));
    }
    let outcome = match &arguments.command {
        Command::Run(options) => run::run(options),
        Command::Inspect(options) => inspect::inspect(options),
        Command::Test(options) => test::test(options),
        Command::Completions { shell } => generate::completions(*shell),
        Command::Man => generate::man(),
    };
    match outcome {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            complain(format_args!("drydock: {error}"));
            ExitCode::from(error.exit_status())
        }
    }
}

/// Says something on stderr, if that can be written to.
fn complain(what: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{what}");
}
