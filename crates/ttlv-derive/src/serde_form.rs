//! The rules by which a structure stands in serde's formats, put on its fields as serde's own attributes.

use crate::field::{argument, bare, options};
use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Data, DeriveInput, Field, Fields, Generics, Result, parse_quote};

pub(crate) fn expand(mut input: DeriveInput) -> Result<TokenStream> {
    let generics = input.generics.clone();
    match &mut input.data {
        Data::Struct(structure) => {
            if matches!(structure.fields, Fields::Named(_)) {
                input
                    .attrs
                    .push(parse_quote!(#[serde(deny_unknown_fields)]));
            }
            fields(&mut structure.fields, &generics)?;
        }
        Data::Enum(choice) => {
            for variant in &mut choice.variants {
                fields(&mut variant.fields, &generics)?;
            }
        }
        Data::Union(_) => {}
    }
    Ok(quote! {
        #[derive(::serde::Serialize, ::serde::Deserialize)]
        #input
    })
}

fn fields(fields: &mut Fields, generics: &Generics) -> Result<()> {
    let named = matches!(fields, Fields::Named(_));
    for field in fields {
        if is_bytes(&field.ty) {
            field
                .attrs
                .push(parse_quote!(#[serde(with = "::keyferry_ttlv::serde_form::bytes")]));
        }
        if named {
            absent(field, generics)?;
        }
    }
    Ok(())
}

/// Lets an absent field be left out when it is written, and be missing when it is read.
fn absent(field: &mut Field, generics: &Generics) -> Result<()> {
    let options = options(&field.attrs)?;
    let ty = bare(&field.ty);
    // Serde itself takes an Option that is missing for none, unless it is told how to read it.
    let attribute = if argument(ty, "Option").is_some() && is_bytes(ty) {
        parse_quote!(#[serde(default, skip_serializing_if = "::core::option::Option::is_none")])
    } else if argument(ty, "Option").is_some() {
        parse_quote!(#[serde(skip_serializing_if = "::core::option::Option::is_none")])
    } else if argument(ty, "Vec").is_some_and(|item| item.to_token_stream().to_string() != "u8") {
        // A default would ask one of a type parameter.
        if generics
            .type_params()
            .any(|parameter| mentions(ty, &parameter.ident.to_string()))
        {
            return Ok(());
        }
        parse_quote!(#[serde(default, skip_serializing_if = "::keyferry_ttlv::serde_form::is_default")])
    } else if options.extra || options.group.is_some() || is(ty, "Extra") {
        parse_quote!(#[serde(default, skip_serializing_if = "::keyferry_ttlv::serde_form::is_default")])
    } else {
        return Ok(());
    };
    field.attrs.push(attribute);
    Ok(())
}

fn is(ty: &syn::Type, name: &str) -> bool {
    matches!(ty, syn::Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == name))
}

fn mentions(ty: &syn::Type, name: &str) -> bool {
    ty.to_token_stream()
        .to_string()
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|word| word == name)
}

/// Whether a type holds bytes that are no secret.
fn is_bytes(ty: &syn::Type) -> bool {
    let text = bare(ty).to_token_stream().to_string().replace(' ', "");
    matches!(
        text.as_str(),
        "Vec<u8>" | "Option<Vec<u8>>" | "Vec<Vec<u8>>" | "[u8;32]"
    )
}
