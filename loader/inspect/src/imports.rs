//! What an image imports, and what is missing.

use std::collections::BTreeSet;

use pe_image::{Code, Import as ImageImport};

use crate::ExportInfo;
use crate::references::References;
use crate::report::{Blocks, Import, ImportState, Module};

/// How many uses of an import are listed.
const SITES_MAX: usize = 8;

/// The imports by module. `code` and what it refers to are missing where it is not for this processor.
pub fn modules(
    imports: &[ImageImport],
    code: Option<(&Code<'_>, &References)>,
    resolver: &dyn Fn(&str, &str) -> Option<ExportInfo>,
) -> Vec<Module> {
    let mut modules: Vec<Module> = Vec::new();
    for import in imports {
        let sites = code.map_or(&[][..], |(_, references)| references.sites(import.slot));
        let state = match resolver(&import.module, &import.name) {
            Some(ExportInfo { signature, rules }) => ImportState::Implemented { signature, rules },
            None => ImportState::Missing { blocks: blocks(sites, code) },
        };
        let described = Import {
            name: import.name.clone(),
            state,
            sites: sites.iter().copied().take(SITES_MAX).collect(),
            site_count: sites.len(),
            is_called: code.is_some_and(|(_, references)| references.is_called(import.slot)),
        };
        match modules.last_mut().filter(|module| module.name == import.module) {
            Some(module) => module.imports.push(described),
            None => modules.push(Module { name: import.module.clone(), imports: vec![described] }),
        }
    }
    modules
}

fn blocks(sites: &[u32], code: Option<(&Code<'_>, &References)>) -> Blocks {
    let Some((code, references)) = code else { return Blocks::Unknown };
    match sites {
        [] => Blocks::NothingSeen,
        sites if sites.iter().any(|&site| references.is_starting(code, site)) => Blocks::Starting,
        _ => Blocks::Later,
    }
}

/// The slots of imports.
pub fn slots(imports: &[ImageImport]) -> BTreeSet<u32> {
    imports.iter().map(|import| import.slot).collect()
}
