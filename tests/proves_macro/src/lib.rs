//! The attribute macro behind the crate `proves`; use it from there.
//!
//! It moves the body of a test into an inner function, calls that, and hands the outcome to `proves::record`. A test that
//! panics never reaches the call, so only tests that passed are recorded. What the macro can refuse it refuses at compile
//! time: ids of the wrong form, functions that cannot be tests, and tests whose passing means that they did not return.

#![forbid(unsafe_code)]

use proc_macro2::TokenStream;
use quote::quote;
use syn::punctuated::Punctuated;
use syn::{Error, ItemFn, LitStr, Token};

mod rule_id;

/// Records the named rules as proven each time the test passes. See the crate `proves`.
#[proc_macro_attribute]
pub fn proves(rules: proc_macro::TokenStream, test: proc_macro::TokenStream) -> proc_macro::TokenStream {
    expand(rules.into(), test.into()).unwrap_or_else(|error| error.to_compile_error()).into()
}

fn expand(rules: TokenStream, test: TokenStream) -> Result<TokenStream, Error> {
    let rules = rule_ids(rules)?;
    let ItemFn { attrs, vis, sig, block } = syn::parse2(test)?;
    if !sig.inputs.is_empty() || !sig.generics.params.is_empty() || sig.asyncness.is_some() {
        return Err(Error::new_spanned(&sig, "#[proves] belongs on a plain test function without parameters"));
    }
    if let Some(attribute) = attrs.iter().find(|attribute| attribute.path().is_ident("should_panic")) {
        return Err(Error::new_spanned(
            attribute,
            "a test that should panic never returns, so it cannot record a proof",
        ));
    }
    let (name, output) = (&sig.ident, &sig.output);
    Ok(quote! {
        #(#attrs)*
        #vis #sig {
            fn body() #output #block
            let outcome = body();
            ::proves::record(
                &[#(#rules),*],
                env!("CARGO_PKG_NAME"),
                concat!(module_path!(), "::", stringify!(#name)),
                &outcome,
            );
            outcome
        }
    })
}

fn rule_ids(rules: TokenStream) -> Result<Vec<LitStr>, Error> {
    let ids = syn::parse::Parser::parse2(Punctuated::<LitStr, Token![,]>::parse_terminated, rules)?;
    if ids.is_empty() {
        return Err(Error::new(
            proc_macro2::Span::call_site(),
            "name the rules that the test proves: #[proves(\"C-133\")]",
        ));
    }
    for id in &ids {
        rule_id::check(&id.value()).map_err(|reason| Error::new(id.span(), reason))?;
    }
    Ok(ids.into_iter().collect())
}

#[cfg(test)]
mod tests;
