use super::*;

const INDEX_TEXT: &str = "# ids\nC-133\t6\tone cleanup\nC-134\t6\tone close\nC-300\t9\tlisten\nK-064b\t5\n";
const EXCEPTION: &str = "enforced = [\"C-6\"]\n[rules.C-134]\nverdict = \"different\"\nreason = \"because | so\"\n";
const PROOF: &str = "C-133\ttdi_core\tfile::cleanup_is_sent_once\n";

fn table(exceptions: &str, proofs: &str) -> Table {
    Table::parse(INDEX_TEXT, exceptions, proofs).expect("well formed")
}

#[test]
fn required_rule_without_proof_or_reason_is_a_problem() {
    assert_eq!(table(EXCEPTION, "").problems(), ["C-133 (one cleanup) is neither proven nor excepted"]);
}

#[test]
fn rules_of_other_chapters_may_stay_open() {
    assert_eq!(table(EXCEPTION, PROOF).problems(), Vec::<String>::new());
}

#[test]
fn chapter_that_is_not_enforced_may_have_open_rules() {
    assert_eq!(table("", "").problems(), Vec::<String>::new());
    assert_eq!(table("enforced = [\"C-9\"]", "").problems(), ["C-300 (listen) is neither proven nor excepted"]);
}

#[test]
fn page_that_claims_what_no_test_shows_is_a_problem() {
    let page = table(EXCEPTION, PROOF).render();
    assert_eq!(table(EXCEPTION, PROOF).false_claims(&page), Vec::<String>::new());
    let problems = table(EXCEPTION, "").false_claims(&page);
    assert_eq!(problems, ["docs/rules.md says C-133 is proven; no test that passed proves it"]);
}

#[test]
fn rule_that_is_proven_and_excepted_is_a_problem() {
    let proofs = format!("{PROOF}C-134\ttdi_core\tfile::close_is_sent_once\n");
    let problems = table(EXCEPTION, &proofs).problems();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].starts_with("C-134 is excepted in"), "{}", problems[0]);
}

#[test]
fn ids_that_no_rule_has_are_problems() {
    let exceptions = format!("{EXCEPTION}[rules.C-998]\nverdict = \"not-applicable\"\nreason = \"none\"\n");
    let problems = table(&exceptions, &format!("{PROOF}C-999\ta\tb\n")).problems();
    assert_eq!(problems, ["no rule has the id C-998", "no rule has the id C-999"]);
}

#[test]
fn proofs_of_the_attribute_itself_are_dropped() {
    assert_eq!(
        table(EXCEPTION, &format!("{PROOF}C-000\tproves\tx\nK-000b\tproves\ty\n")).problems(),
        Vec::<String>::new()
    );
}

#[test]
fn table_lists_tests_reasons_and_what_is_open() {
    let proofs = format!("{PROOF}{PROOF}C-133\ttdi_transport\ttdi_transport::cleanup\n");
    let page = table(EXCEPTION, &proofs).render();
    let proven =
        "| C-133 | one cleanup | proven | `tdi_core: file::cleanup_is_sent_once`<br>`tdi_transport::cleanup` |";
    assert!(page.contains(proven), "{page}");
    assert!(page.contains("| C-134 | one close | different | because \\| so |"), "{page}");
    assert!(!page.contains("C-300") && !page.contains("chapter 9"), "{page}");
    assert!(table("", "").render().contains("| C-133 | one cleanup | **open** |  |"));
}

#[test]
fn table_does_not_depend_on_the_order_of_proofs() {
    let proofs = ["C-133\tb\tz\n", PROOF, "C-300\ta\tx\n"];
    let backwards: String = proofs.iter().rev().copied().collect();
    assert_eq!(table("", &proofs.concat()).render(), table("", &backwards).render());
}

#[test]
fn file_of_proofs_that_is_not_there_does_not_empty_the_table() {
    let workspace = Workspace::find().expect("a checkout");
    let error = Table::read(&workspace, Path::new("no such file")).expect_err("no proofs");
    assert_eq!(error.to_string(), "cannot read no such file");
}

#[test]
fn malformed_input_is_refused() {
    assert!(Table::parse("C-133", "", "").is_err());
    assert!(Table::parse("C-133\tsix", "", "").is_err());
    assert!(Table::parse("", "[rules.C-133]\nverdict = \"maybe\"\nreason = \"\"", "").is_err());
    assert!(Table::parse("", "[rules.C-133]\nverdict = \"different\"", "").is_err());
    assert!(Table::parse("", "", "C-133\tonly two").is_err());
}
