//! The derive of `Encode`: a structure's fields are written in the order of their declaration.

use crate::field::{Field, Shape, bounded, distinct, fields, options, version};
use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{DeriveInput, Result};

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let name = &input.ident;
    let Some(fields) = fields(input)? else {
        return Ok(quote!());
    };
    let of_type = options(&input.attrs)?;
    of_type.only(&["tag", "downgrade"], "a type", name.span())?;
    let tagged = match &of_type.tag {
        Some(tag) => {
            let (impls, types, wheres) = input.generics.split_for_impl();
            quote!(impl #impls ::keyferry_ttlv::Tagged for #name #types #wheres { const TAG: ::keyferry_ttlv::Tag = #tag; })
        }
        None => quote!(),
    };
    let distinct = distinct(&fields, input)?;
    let generics = bounded(&input.generics, &quote!(::keyferry_ttlv::Encode));
    let (impls, types, wheres) = generics.split_for_impl();
    let body = fields.iter().map(write).collect::<Result<Vec<_>>>()?;
    Ok(quote! {
        #tagged
        #distinct
        #[automatically_derived]
        impl #impls ::keyferry_ttlv::Encode for #name #types #wheres {
            fn encode(&self, tag: ::keyferry_ttlv::Tag, w: &mut ::keyferry_ttlv::Writer) -> ::keyferry_ttlv::Result<()> {
                w.structure(tag, |w| {
                    #(#body)*
                    ::core::result::Result::Ok(())
                })
            }
        }
    })
}

/// The statement that writes a field.
fn write(field: &Field) -> Result<TokenStream> {
    let (name, tag, span, inner, options) = (
        &field.name,
        &field.tag,
        field.span,
        &field.inner,
        &field.options,
    );
    let write = write_value(field)?;
    Ok(match field.shape {
        Shape::Extra => quote!(self.#name.write(w);),
        Shape::Group => {
            let how = &options.group;
            quote_spanned!(span=> <#inner as ::keyferry_ttlv::Group>::write(&self.#name, #how, w)?;)
        }
        Shape::Required => match &options.default {
            Some(default) => quote!({
                let (value, default): (_, #inner) = (&self.#name, #default);
                if *value != default { #write }
            }),
            None => quote!({ let value = &self.#name; #write }),
        },
        Shape::Optional => {
            let required = options.required(&quote!(w.version()))?.map(|required| {
                quote!(else if #required {
                    return ::core::result::Result::Err(w.error(#tag, ::keyferry_ttlv::ErrorKind::Missing(#tag)));
                })
            });
            quote!(if let ::core::option::Option::Some(value) = &self.#name { #write } #required)
        }
        Shape::Repeated => {
            let single = match &options.repeated_since {
                Some(text) => {
                    let since = version(text)?;
                    quote!(if self.#name.len() > 1 && w.version() < #since {
                        return ::core::result::Result::Err(w.error(#tag, ::keyferry_ttlv::ErrorKind::Repeated(#tag)));
                    })
                }
                None => quote!(),
            };
            let some = options.at_least_one.then(|| {
                quote!(if self.#name.is_empty() {
                    return ::core::result::Result::Err(w.error(#tag, ::keyferry_ttlv::ErrorKind::Missing(#tag)));
                })
            });
            quote!(#some #single for value in &self.#name { #write })
        }
    })
}

/// The statements that write one `value` of a field, when the version has the field.
fn write_value(field: &Field) -> Result<TokenStream> {
    let (tag, span) = (&field.tag, field.span);
    if field.options.choice {
        return Ok(quote_spanned!(span=> ::keyferry_ttlv::Choice::encode_choice(value, w)?;));
    }
    let check = match field.options.range()? {
        Some((since, until)) => quote!(w.require(#tag, #since, #until)?;),
        None => quote!(),
    };
    let write = quote_spanned!(span=> ::keyferry_ttlv::Encode::encode(value, #tag, w)?;);
    Ok(quote!(#check #write))
}
