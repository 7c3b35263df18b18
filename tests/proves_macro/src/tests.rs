use super::*;

fn refusal(rules: TokenStream, test: TokenStream) -> String {
    expand(rules, test).expect_err("the macro must refuse this").to_string()
}

#[test]
fn id_with_three_digits_and_optional_letter_is_accepted() {
    for id in ["C-001", "D-120", "K-999", "K-064b"] {
        assert_eq!(rule_id::check(id), Ok(()), "{id}");
    }
}

#[test]
fn id_of_any_other_form_is_refused() {
    for id in [
        "",
        "C",
        "C-",
        "C-1",
        "C-12",
        "C-1234",
        "X-123",
        "c-123",
        "C_123",
        "C-12a",
        "C-123B",
        "C-123ab",
        " C-123",
        "C-१२३",
    ] {
        assert!(rule_id::check(id).is_err(), "{id:?}");
    }
}

#[test]
fn test_keeps_its_attributes_and_return_type() {
    let test = quote! { #[test] #[cfg(unix)] fn claim() -> Result<(), Error> { Ok(()) } };
    let expanded = expand(quote!("C-133", "C-160"), test).expect("a plain test").to_string();
    let outer: ItemFn = syn::parse_str(&expanded).expect("the expansion is a function");
    assert_eq!(outer.attrs.len(), 2);
    assert_eq!(outer.sig, syn::parse_quote!(fn claim() -> Result<(), Error>));
    assert!(expanded.contains(r#"& ["C-133" , "C-160"]"#), "{expanded}");
}

#[test]
fn attribute_without_ids_is_refused() {
    assert!(refusal(quote!(), quote! { fn claim() {} }).contains("name the rules"));
}

#[test]
fn id_that_is_no_string_is_refused() {
    refusal(quote!(C133), quote! { fn claim() {} });
}

#[test]
fn malformed_id_is_refused_with_its_text() {
    assert!(refusal(quote!("C-133", "C-13"), quote! { fn claim() {} }).contains("\"C-13\""));
}

#[test]
fn function_with_parameters_is_refused() {
    assert!(refusal(quote!("C-133"), quote! { fn claim(n: u32) {} }).contains("without parameters"));
}

#[test]
fn test_that_should_panic_is_refused() {
    assert!(refusal(quote!("C-133"), quote! { #[should_panic] fn claim() {} }).contains("never returns"));
}
