//! Shell completions and the manual page, from the same declarations that read the command line.

use std::io;

use clap::CommandFactory;
use clap_complete::Shell;
use drydock::DockError;

use crate::arguments::Arguments;
use crate::run::RunError;

/// Prints a completion script.
pub fn completions(shell: Shell) -> Result<u8, RunError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "drydock", &mut script);
    print(&script)
}

/// Prints the manual page, with a section for each subcommand.
pub fn man() -> Result<u8, RunError> {
    let mut page = Vec::new();
    let command = Arguments::command();
    let rendered = clap_mangen::Man::new(command.clone()).render(&mut page).and_then(|()| {
        command.get_subcommands().try_for_each(|subcommand| {
            // clap takes names for the whole life of the process only; there are a handful.
            let name: &'static str = format!("drydock {}", subcommand.get_name()).leak();
            clap_mangen::Man::new(subcommand.clone().name(name)).render(&mut page)
        })
    });
    rendered.map_err(|error| RunError::Dock(DockError::output("the manual page", error)))?;
    print(&page)
}

fn print(text: &[u8]) -> Result<u8, RunError> {
    let written = io::Write::write_all(&mut io::stdout(), text);
    written.map(|()| 0).map_err(|error| RunError::Dock(DockError::output("stdout", error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_and_manual_page_begin_with_what_the_program_does() {
        let about = Arguments::command().get_about().map(ToString::to_string).unwrap_or_default();
        assert!(about.starts_with("Runs unmodified Windows kernel-mode network drivers"), "{about}");
    }
}
