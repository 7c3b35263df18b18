//! Shell completions and the manual page, from the same declarations that read the command line.

use std::io;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use drydock::DockError;

use crate::arguments::Arguments;
use crate::run::{self, RunError};

/// Prints a completion script.
pub fn completions(shell: Shell) -> Result<u8, RunError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "drydock", &mut script);
    print(&script)
}

/// Prints the manual page: one page, with a section for each subcommand.
pub fn man() -> Result<u8, RunError> {
    let page = page().map_err(|error| RunError::Dock(DockError::output("the manual page", error)))?;
    print(&page)
}

fn page() -> io::Result<Vec<u8>> {
    let command = Arguments::command();
    let mut page = Vec::new();
    let whole = Man::new(command.clone());
    whole.render_title(&mut page)?;
    whole.render_name_section(&mut page)?;
    whole.render_synopsis_section(&mut page)?;
    whole.render_description_section(&mut page)?;
    whole.render_options_section(&mut page)?;
    for subcommand in command.get_subcommands() {
        page.extend(section(subcommand)?);
    }
    page.extend_from_slice(FILES.as_bytes());
    whole.render_version_section(&mut page)?;
    Ok(page)
}

/// What every run may leave behind.
const FILES: &str = ".SH FILES
.TP
.B drydock\\-crash\\-1.txt
Written into the folder of \\-\\-crash\\-dir when a run ends in a bugcheck or its process goes away; the number is the first
that is free.
";

/// A subcommand's page as a section, its sections as subsections.
fn section(subcommand: &Command) -> io::Result<Vec<u8>> {
    // clap takes names for the whole life of the process only; there are a handful.
    let name: &'static str = format!("drydock {}", subcommand.get_name()).leak();
    let man = Man::new(subcommand.clone().bin_name(name).disable_help_flag(true));
    let mut out = format!(".SH {}\n", name.to_uppercase()).into_bytes();
    let mut parts = Vec::new();
    man.render_synopsis_section(&mut parts)?;
    man.render_description_section(&mut parts)?;
    man.render_options_section(&mut parts)?;
    man.render_extra_section(&mut parts)?;
    for line in String::from_utf8_lossy(&parts).lines() {
        let line = match line.strip_prefix(".SH ") {
            Some("EXTRA") => ".SS EXAMPLE".into(),
            Some(title) => format!(".SS {title}"),
            None if line.starts_with("Example") => continue,
            // A paragraph of its own.
            None if line.starts_with("Exit status:") => format!(".PP\n{line}"),
            None => line.to_owned(),
        };
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
    }
    Ok(out)
}

fn print(text: &[u8]) -> Result<u8, RunError> {
    run::print(|out| io::Write::write_all(out, text)).map(|()| 0)
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
