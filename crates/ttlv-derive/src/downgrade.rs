//! The derive of `Downgrade`: what another version lacks is left behind, field by field.

use crate::field::{
    Field, Options, Shape, bounded, fields, options as options_of, variants, version,
};
use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{DeriveInput, Result};

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let name = &input.ident;
    let Some(fields) = fields(input)? else {
        return choice(input);
    };
    let generics = bounded(&input.generics, &quote!(::keyferry_ttlv::Downgrade));
    let generics = bounded(&generics, &quote!(::keyferry_ttlv::Encode));
    let (impls, types, wheres) = generics.split_for_impl();
    let mut steps = Vec::new();
    if let Some(first) = options_of(&input.attrs)?.downgrade {
        steps.push(quote!(if !#first(self, version, loss) { return false; }));
    }
    for field in &fields {
        steps.push(vital(field, step(field, &fields)?));
    }
    Ok(quote! {
        #[automatically_derived]
        impl #impls ::keyferry_ttlv::Downgrade for #name #types #wheres {
            fn downgrade(&mut self, version: ::keyferry_ttlv::Version, loss: &mut ::keyferry_ttlv::Loss) -> bool {
                #(#steps)*
                true
            }
        }
    })
}

/// The implementation for a choice: the form's own, where the version has the form.
fn choice(input: &DeriveInput) -> Result<TokenStream> {
    let name = &input.ident;
    let mut arms = Vec::new();
    for variant in variants(input)? {
        let (form, has) = (&variant.name, &variant.within);
        arms.push(quote!(#name::#form(value) => #has && ::keyferry_ttlv::Downgrade::downgrade(value, version, loss),));
    }
    Ok(quote! {
        #[automatically_derived]
        impl ::keyferry_ttlv::Downgrade for #name {
            fn downgrade(&mut self, version: ::keyferry_ttlv::Version, loss: &mut ::keyferry_ttlv::Loss) -> bool {
                match self { #(#arms)* }
            }
        }
    })
}

/// Whether `version` has the field, as an expression.
fn has(options: &Options) -> Result<TokenStream> {
    Ok(match options.range()? {
        Some((since, until)) => quote!(version.is_within(#since, #until)),
        None => quote!(true),
    })
}

/// The statements that make one field fit for the version.
fn step(field: &Field, fields: &[Field]) -> Result<TokenStream> {
    let Field {
        name,
        span,
        options,
        inner,
        ..
    } = field;
    Ok(match (field.shape, options.choice) {
        (Shape::Extra, _) => {
            // What was kept because its version lacks it must not be taken for a field where there is one.
            let arms = claims(fields)?;
            quote!(loss.extra(&mut self.#name, version, |child, r| match child.tag() {
                #(#arms)*
                _ => false,
            });)
        }
        (Shape::Group, _) => {
            let how = &options.group;
            quote_spanned!(*span=> if !<#inner as ::keyferry_ttlv::Group>::downgrade(&mut self.#name, #how, version, loss) {
                return false;
            })
        }
        (Shape::Required, false) => required(field)?,
        (Shape::Required, true) => {
            quote_spanned!(*span=> if !loss.keeps_choice(&mut self.#name, version) { return false; })
        }
        (Shape::Optional, _) => optional(field)?,
        (Shape::Repeated, true) => {
            quote_spanned!(*span=> self.#name.retain_mut(|value| loss.keeps_choice(value, version));)
        }
        (Shape::Repeated, false) => repeated(field)?,
    })
}

/// A field that must be there: it takes its default where it has one and cannot be kept.
fn required(field: &Field) -> Result<TokenStream> {
    let (name, tag, span, inner) = (&field.name, &field.tag, field.span, &field.inner);
    let has = has(&field.options)?;
    let whole = quote_spanned!(span=> loss.keeps(&mut self.#name, #tag, #has, version));
    Ok(match &field.options.default {
        Some(default) => quote!({
            let default: #inner = #default;
            if self.#name != default && !#whole {
                self.#name = default;
            }
        }),
        None => quote!(if !#whole { return false; }),
    })
}

/// A field that may be absent. A value that is implied by its absence is not lost where there is no field for it, and is written where the
/// field must be there.
fn optional(field: &Field) -> Result<TokenStream> {
    let (name, tag, span, options) = (&field.name, &field.tag, field.span, &field.options);
    let has = has(options)?;
    let step = if options.choice {
        quote_spanned!(span=> loss.optional_choice(&mut self.#name, version);)
    } else {
        quote_spanned!(span=> if !loss.optional(&mut self.#name, #tag, #has, version) { return false; })
    };
    let Some(demanded) = options.required(&quote!(version))? else {
        return Ok(step);
    };
    let implied = options.implied.as_ref().map(|path| {
        quote! {
            if !#has && self.#name == #path(self) {
                self.#name = ::core::option::Option::None;
            }
            if self.#name.is_none() && (#demanded) {
                self.#name = #path(self);
            }
        }
    });
    Ok(quote!(#implied #step if self.#name.is_none() && (#demanded) { return false; }))
}

/// A field that may stand several times.
fn repeated(field: &Field) -> Result<TokenStream> {
    let (name, tag, span, options) = (&field.name, &field.tag, field.span, &field.options);
    let has = has(options)?;
    let once = match &options.repeated_since {
        Some(text) => {
            let since = version(text)?;
            quote!(version < #since)
        }
        None => quote!(false),
    };
    let some = options
        .at_least_one
        .then(|| quote!(if self.#name.is_empty() { return false; }));
    Ok(
        quote_spanned!(span=> if !loss.repeated(&mut self.#name, #tag, #has, #once, version) { return false; } #some),
    )
}

/// The step, and for a vital field the end when the step lost anything.
fn vital(field: &Field, step: TokenStream) -> TokenStream {
    if !field.options.vital {
        return step;
    }
    quote!({
        let before = loss.len();
        #step
        if loss.len() > before { return false; }
    })
}

/// The arms of a match on an item's tag that say whether the reader would take the item for a field in `version`.
fn claims(fields: &[Field]) -> Result<Vec<TokenStream>> {
    let mut arms = Vec::new();
    for Field {
        tag,
        span,
        options,
        inner,
        shape,
        ..
    } in fields
    {
        arms.push(match (shape, options.choice) {
            (Shape::Extra, _) => continue,
            (Shape::Group, _) => {
                let how = &options.group;
                quote_spanned!(*span=> _ if <#inner as ::keyferry_ttlv::Group>::accepts(#how, child, r) => true,)
            }
            (_, true) => quote_spanned!(*span=> tag if <#inner as ::keyferry_ttlv::Choice>::accepts(tag, r) => true,),
            (_, false) => match options.range()? {
                Some((since, until)) => quote!(#tag if r.has(#since, #until) => true,),
                None => quote!(#tag => true,),
            },
        });
    }
    Ok(arms)
}
