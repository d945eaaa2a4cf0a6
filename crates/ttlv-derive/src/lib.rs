//! `#[derive(Encode, Decode, Downgrade)]` for `keyferry-ttlv`: one description of a structure serves reading and writing, and says what
//! another version lacks.
//!
//! ```
//! use keyferry_ttlv::{Context, Decode, Encode, Extra, Tag, Version, decode, encode};
//!
//! const PROTOCOL_VERSION: Tag = Tag::new(0x420069);
//! const MAJOR: Tag = Tag::new(0x42006A);
//! const MINOR: Tag = Tag::new(0x42006B);
//!
//! #[derive(Debug, PartialEq, Encode, Decode)]
//! #[ttlv(tag = PROTOCOL_VERSION)]
//! struct ProtocolVersion {
//!     #[ttlv(tag = MAJOR)]
//!     major: i32,
//!     #[ttlv(tag = MINOR)]
//!     minor: i32,
//!     #[ttlv(extra)]
//!     extra: Extra,
//! }
//!
//! let cx = Context::new(Version::V2_1);
//! let version = ProtocolVersion { major: 2, minor: 1, extra: Extra::NONE };
//! assert_eq!(decode::<ProtocolVersion>(&encode(&version, cx)?, cx)?, version);
//! # Ok::<(), keyferry_ttlv::Error>(())
//! ```
//!
//! On a structure, each field names its tag, or has a type that is `Tagged`. `Option<T>` may be absent, `Vec<T>` repeats, anything else
//! must be there.
//!
//! | attribute | meaning |
//! |---|---|
//! | `tag = 0x42006A`, `tag = MAJOR` | the tag, a number or a constant of type `Tag`; on the type: implement `Tagged` (`Encode` does) |
//! | `since = "1.2"` | the first version that has the field, or the form of a choice |
//! | `until = "1.4"` | the last version that has it |
//! | `required_since = "2.0"` | an `Option` that must be there to be written for this version or a later one |
//! | `repeated_since = "2.0"` | a `Vec` that holds one value at the most to be written for an earlier version |
//! | `default`, `default = value` | what an absent field means: taken when it is absent, and not written when it is this |
//! | `choice` | the field's type implements `Choice`: its own tag says which form it is |
//! | `group = how` | the field's type implements `Group`: which items it takes depends on the version |
//! | `extra` | an `Extra`: takes every field that is not known, or not known in the message's version |
//!
//! On an enum, each variant holds one value and names its tag, perhaps with versions; the derives then implement `Choice`, both derives
//! together.
//!
//! A field that the message's version lacks counts as unknown: it goes to `extra`, or is an error where there is none. A type parameter must
//! itself be what is derived. It writes nothing by guess; what is wrong, or would be without effect, is a compile error:
//!
//! ```compile_fail
//! # use keyferry_ttlv::{Decode, Encode};
//! #[derive(Encode, Decode)]
//! struct NoTag { major: i32 }
//! ```
//! ```compile_fail
//! # use keyferry_ttlv::{Decode, Encode};
//! #[derive(Encode, Decode)]
//! struct NoSuchTag { #[ttlv(tag = 0x43006A)] major: i32 }
//! ```
//! ```compile_fail
//! # use keyferry_ttlv::{Decode, Encode, Tag};
//! # const MAJOR: Tag = Tag::new(0x42006A);
//! #[derive(Encode, Decode)]
//! struct OneTagTwice { #[ttlv(tag = MAJOR)] major: i32, #[ttlv(tag = MAJOR, since = "1.2")] minor: Option<i32> }
//! ```
//! ```compile_fail
//! # use keyferry_ttlv::{Decode, Encode, Tag};
//! # const MAJOR: Tag = Tag::new(0x42006A);
//! #[derive(Encode, Decode)]
//! struct NoVersion { #[ttlv(tag = MAJOR, since = "one")] major: i32 }
//! ```
//! ```compile_fail
//! # use keyferry_ttlv::{Decode, Encode, Tag};
//! # const MAJOR: Tag = Tag::new(0x42006A);
//! #[derive(Encode, Decode)]
//! struct RequiredAnyway { #[ttlv(tag = MAJOR, required_since = "2.0")] major: i32 }
//! ```
//! ```compile_fail
//! # use keyferry_ttlv::{Decode, Encode, Tag};
//! # const MAJOR: Tag = Tag::new(0x42006A);
//! #[derive(Encode, Decode)]
//! struct UnknownOption { #[ttlv(tag = MAJOR, optional)] major: Option<i32> }
//! ```
//! ```compile_fail
//! # use keyferry_ttlv::{Decode, Encode, Tag};
//! # const MAJOR: Tag = Tag::new(0x42006A);
//! #[derive(Encode, Decode)]
//! struct OneTagByTwoNames { #[ttlv(tag = MAJOR)] major: i32, #[ttlv(tag = 0x42006A)] other: i32 }
//! ```
//! ```compile_fail
//! # use keyferry_ttlv::{Decode, Encode};
//! #[derive(Encode, Decode)]
//! struct Never { #[ttlv(tag = 0x42006A, since = "2.0", until = "1.4")] major: Option<i32> }
//! ```
//! ```compile_fail
//! # use keyferry_ttlv::{Decode, Encode, Extra};
//! #[derive(Encode, Decode)]
//! struct WithoutEffect { #[ttlv(extra, since = "2.0")] extra: Extra }
//! ```
//!
//! [`macro@shown`] derives serde's traits by the rules of `keyferry_ttlv::shown`, whose feature `serde` it needs.
//!
//! It does not derive for tuples and unions, and has no features.

mod shown;

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{
    Data, DeriveInput, Error, Expr, ExprLit, Fields, GenericArgument, Lit, LitStr, PathArguments, Result, Type, parse_macro_input,
};

/// Writes the fields in the order of their declaration.
#[proc_macro_derive(Encode, attributes(ttlv))]
pub fn encode(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    derive_encode(&input).unwrap_or_else(Error::into_compile_error).into()
}

/// Reads the fields in any order.
#[proc_macro_derive(Decode, attributes(ttlv))]
pub fn decode(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    derive_decode(&input).unwrap_or_else(Error::into_compile_error).into()
}

/// Leaves behind what another version lacks, field by field (KMIP has fields that came, and some that went).
#[proc_macro_derive(Downgrade, attributes(ttlv))]
pub fn downgrade(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    derive_downgrade(&input).unwrap_or_else(Error::into_compile_error).into()
}

/// Derives serde's `Serialize` and `Deserialize` by the rules of the house: a field that is absent, empty or a `group` that is as it began is
/// left out, and need not be there to be read; bytes are hexadecimal; a field that is not known is an error. Stands before the other derives.
#[proc_macro_attribute]
pub fn shown(_: proc_macro::TokenStream, input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    shown::expand(input).unwrap_or_else(Error::into_compile_error).into()
}

#[derive(Default)]
struct Options {
    tag: Option<TokenStream>,
    since: Option<LitStr>,
    until: Option<LitStr>,
    required_since: Option<LitStr>,
    repeated_since: Option<LitStr>,
    group: Option<Expr>,
    default: Option<TokenStream>,
    choice: bool,
    extra: bool,
}

/// The value itself: one that came through a macro stands in an invisible group.
fn bare_value(value: &Expr) -> &Expr {
    match value {
        Expr::Group(group) => bare_value(&group.expr),
        other => other,
    }
}

/// The tag that an attribute names, in a form that can stand in a pattern.
fn tag(value: Expr) -> Result<TokenStream> {
    let Expr::Lit(ExprLit { lit: Lit::Int(literal), .. }) = bare_value(&value) else {
        return match bare_value(&value) {
            Expr::Path(_) => Ok(quote!(#value)),
            _ => Err(Error::new(value.span(), "a tag is a number or a constant")),
        };
    };
    let number: u32 = literal.base10_parse()?;
    if !matches!(number >> 16, 0x42 | 0x54) {
        return Err(Error::new(literal.span(), "a tag is 0x42…, or 0x54… for a vendor's"));
    }
    Ok(quote!(<::keyferry_ttlv::__private::Numbered<#number>>::TAG))
}

fn options(attributes: &[syn::Attribute]) -> Result<Options> {
    let mut options = Options::default();
    for attribute in attributes.iter().filter(|a| a.path().is_ident("ttlv")) {
        attribute.parse_nested_meta(|meta| {
            let name = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
            match name.as_str() {
                "tag" => options.tag = Some(tag(meta.value()?.parse()?)?),
                "since" => options.since = Some(meta.value()?.parse()?),
                "until" => options.until = Some(meta.value()?.parse()?),
                "required_since" => options.required_since = Some(meta.value()?.parse()?),
                "repeated_since" => options.repeated_since = Some(meta.value()?.parse()?),
                "group" => options.group = Some(meta.value()?.parse()?),
                "default" => {
                    options.default = Some(if meta.input.peek(syn::Token![=]) {
                        let value: Expr = meta.value()?.parse()?;
                        quote!(#value)
                    } else {
                        quote!(::core::default::Default::default())
                    });
                }
                "choice" => options.choice = true,
                "extra" => options.extra = true,
                _ => return Err(meta.error("unknown ttlv option")),
            }
            Ok(())
        })?;
    }
    Ok(options)
}

impl Options {
    /// Fails when something is said that has no effect there.
    fn only(&self, allowed: &[&str], what: &str, span: Span) -> Result<()> {
        let said = [
            ("tag", self.tag.is_some()),
            ("since", self.since.is_some()),
            ("until", self.until.is_some()),
            ("required_since", self.required_since.is_some()),
            ("repeated_since", self.repeated_since.is_some()),
            ("group", self.group.is_some()),
            ("default", self.default.is_some()),
            ("choice", self.choice),
            ("extra", self.extra),
        ];
        match said.iter().find(|(name, said)| *said && !allowed.contains(name)) {
            Some((name, _)) => Err(Error::new(span, format!("{name} has no effect on {what}"))),
            None => Ok(()),
        }
    }

    /// The versions that have it, where not all do.
    fn range(&self) -> Result<Option<(TokenStream, TokenStream)>> {
        if self.since.is_none() && self.until.is_none() {
            return Ok(None);
        }
        if let (Some(since), Some(until)) = (&self.since, &self.until)
            && numbers(since) > numbers(until)
        {
            return Err(Error::new(until.span(), "no version lies between since and until"));
        }
        let since = match &self.since {
            Some(text) => version(text)?,
            None => quote!(::keyferry_ttlv::Version::V1_0),
        };
        let until = match &self.until {
            Some(text) => {
                let until = version(text)?;
                quote!(::core::option::Option::Some(#until))
            }
            None => quote!(::core::option::Option::None),
        };
        Ok(Some((since, until)))
    }
}

/// `"1.2"` as major and minor.
fn numbers(text: &LitStr) -> Option<(u8, u8)> {
    let text = text.value();
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// `"1.2"` as a `Version`.
fn version(text: &LitStr) -> Result<TokenStream> {
    let Some((major, minor)) = numbers(text) else { return Err(Error::new(text.span(), "a version is written \"major.minor\"")) };
    Ok(quote!(::keyferry_ttlv::Version::new(#major, #minor)))
}

#[derive(Clone, Copy, PartialEq)]
enum Shape {
    Required,
    Optional,
    Repeated,
    Group,
    Extra,
}

struct Field {
    name: syn::Ident,
    inner: Type,
    shape: Shape,
    options: Options,
    tag: TokenStream,
    span: Span,
}

impl Field {
    /// Whether an item could belong to this field and to another one.
    fn shares(&self, other: &Field) -> bool {
        let plain = |field: &Field| !matches!(field.shape, Shape::Group | Shape::Extra) && !field.options.choice;
        let first = |field: &Field| field.options.since.as_ref().and_then(numbers).unwrap_or((0, 0));
        let last = |field: &Field| field.options.until.as_ref().and_then(numbers).unwrap_or((u8::MAX, u8::MAX));
        plain(self)
            && plain(other)
            && self.tag.to_string() == other.tag.to_string()
            && first(self) <= last(other)
            && first(other) <= last(self)
    }
}

/// The type itself: one that came through a macro stands in an invisible group.
fn bare(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => bare(&group.elem),
        other => other,
    }
}

/// `T` of `Wrapper<T>`.
fn argument<'t>(ty: &'t Type, wrapper: &str) -> Option<&'t Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last()?;
    if last.ident != wrapper {
        return None;
    }
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    match arguments.args.first()? {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    }
}

/// `Vec<u8>` is a Byte String, not a repeated field.
fn repeated(ty: &Type) -> Option<&Type> {
    argument(ty, "Vec").filter(|inner| !matches!(inner, Type::Path(path) if path.path.is_ident("u8")))
}

fn fields(input: &DeriveInput) -> Result<Option<Vec<Field>>> {
    let Data::Struct(data) = &input.data else { return Ok(None) };
    let Fields::Named(named) = &data.fields else {
        return Err(Error::new(input.ident.span(), "only structures with named fields and enums can be derived"));
    };
    let mut fields = Vec::new();
    for field in &named.named {
        let options = options(&field.attrs)?;
        let ty = bare(&field.ty);
        let (inner, shape) = if options.extra {
            (ty, Shape::Extra)
        } else if options.group.is_some() {
            (ty, Shape::Group)
        } else if let Some(inner) = argument(ty, "Option") {
            (inner, Shape::Optional)
        } else if let Some(inner) = repeated(ty) {
            (inner, Shape::Repeated)
        } else {
            (ty, Shape::Required)
        };
        // Errors point at the type; names are the derive's own, whatever macro the type came through.
        let span = field.ty.span().resolved_at(Span::call_site());
        if options.extra {
            options.only(&["extra"], "an extra", span)?;
        } else if options.group.is_some() {
            options.only(&["group"], "a group, which has versions of its own", span)?;
        } else if options.choice {
            options.only(&["choice", "tag"], "a choice, whose forms have versions of their own", span)?;
        }
        if options.extra && fields.iter().any(|other: &Field| other.shape == Shape::Extra) {
            return Err(Error::new(span, "a second extra"));
        }
        if options.required_since.is_some() && shape != Shape::Optional {
            return Err(Error::new(span, "required_since is for an Option"));
        }
        if options.repeated_since.is_some() && shape != Shape::Repeated {
            return Err(Error::new(span, "repeated_since is for a Vec"));
        }
        if options.default.is_some() && shape != Shape::Required {
            return Err(Error::new(span, "default is for a field that is neither an Option nor a Vec"));
        }
        let tag = match &options.tag {
            Some(tag) => quote!(#tag),
            None => quote_spanned!(span=> <#inner as ::keyferry_ttlv::Tagged>::TAG),
        };
        let Some(name) = field.ident.clone() else { continue };
        let field = Field { name, inner: inner.clone(), shape, options, tag, span };
        if fields.iter().any(|other| field.shares(other)) {
            return Err(Error::new(span, "another field has this tag in some version"));
        }
        fields.push(field);
    }
    Ok(Some(fields))
}

/// Checks when the type is compiled that no two fields have one tag, under whatever names, in one version.
fn distinct(fields: &[Field], input: &DeriveInput) -> Result<TokenStream> {
    let mut tags = Vec::new();
    for field in fields {
        let options = &field.options;
        let plain = !matches!(field.shape, Shape::Group | Shape::Extra) && !options.choice;
        // What the tag of a type parameter is, only its user knows.
        if !plain || options.tag.is_none() && !input.generics.params.is_empty() {
            continue;
        }
        let tag = &field.tag;
        let (since, until) = match options.range()? {
            Some(range) => range,
            None => (quote!(::keyferry_ttlv::Version::V1_0), quote!(::core::option::Option::None)),
        };
        tags.push(quote!((#tag, #since, #until)));
    }
    let why = format!("two fields of {} have one tag in some version", input.ident);
    Ok(quote!(
        const _: () = ::core::assert!(::keyferry_ttlv::__private::distinct(&[#(#tags),*]), #why);
    ))
}

/// The type's parameters, each of which must itself be what is derived.
fn bounded(generics: &syn::Generics, bound: &TokenStream) -> syn::Generics {
    let mut generics = generics.clone();
    for parameter in generics.type_params_mut() {
        parameter.bounds.push(syn::parse_quote!(#bound));
    }
    generics
}

struct Variant {
    name: syn::Ident,
    ty: Type,
    tag: TokenStream,
    /// Behind the tag in a pattern, and before writing.
    has: TokenStream,
    require: TokenStream,
    /// Whether `version` has it.
    within: TokenStream,
}

fn variants(input: &DeriveInput) -> Result<Vec<Variant>> {
    if let Some(parameter) = input.generics.params.first() {
        return Err(Error::new(parameter.span(), "a choice has no parameters"));
    }
    options(&input.attrs)?.only(&[], "a choice", input.ident.span())?;
    let Data::Enum(data) = &input.data else { return Err(Error::new(input.ident.span(), "a union has no TTLV form")) };
    let mut variants = Vec::new();
    for variant in &data.variants {
        let options = options(&variant.attrs)?;
        let Fields::Unnamed(unnamed) = &variant.fields else {
            return Err(Error::new(variant.ident.span(), "each variant of a choice holds one value"));
        };
        let (Some(field), 1) = (unnamed.unnamed.first(), unnamed.unnamed.len()) else {
            return Err(Error::new(variant.ident.span(), "each variant of a choice holds one value"));
        };
        options.only(&["tag", "since", "until"], "a form of a choice", variant.ident.span())?;
        let ty = field.ty.clone();
        let tag = match &options.tag {
            Some(tag) => quote!(#tag),
            None => quote_spanned!(ty.span()=> <#ty as ::keyferry_ttlv::Tagged>::TAG),
        };
        let (has, require, within) = match options.range()? {
            Some((since, until)) => (
                quote!(if r.has(#since, #until)),
                quote!(w.require(#tag, #since, #until)?;),
                quote!(version.is_within(#since, #until)),
            ),
            None => (quote!(), quote!(), quote!(true)),
        };
        variants.push(Variant { name: variant.ident.clone(), ty, tag, has, require, within });
    }
    Ok(variants)
}

fn derive_encode(input: &DeriveInput) -> Result<TokenStream> {
    let name = &input.ident;
    let Some(fields) = fields(input)? else { return Ok(quote!()) };
    let of_type = options(&input.attrs)?;
    of_type.only(&["tag"], "a type", name.span())?;
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
    let mut body = Vec::new();
    for field in &fields {
        let Field { name, tag, span, .. } = field;
        let check = match field.options.range()? {
            Some((since, until)) => quote!(w.require(#tag, #since, #until)?;),
            None => quote!(),
        };
        let (write, check) = if field.options.choice {
            (quote_spanned!(*span=> ::keyferry_ttlv::Choice::encode_choice(value, w)?;), quote!())
        } else {
            (quote_spanned!(*span=> ::keyferry_ttlv::Encode::encode(value, #tag, w)?;), check)
        };
        body.push(match field.shape {
            Shape::Extra => quote!(self.#name.write(w);),
            Shape::Group => {
                let (inner, how) = (&field.inner, &field.options.group);
                quote_spanned!(*span=> <#inner as ::keyferry_ttlv::Group>::write(&self.#name, #how, w)?;)
            }
            Shape::Required => match &field.options.default {
                Some(default) => {
                    let inner = &field.inner;
                    quote!({
                        let (value, default): (_, #inner) = (&self.#name, #default);
                        if *value != default { #check #write }
                    })
                }
                None => quote!({ let value = &self.#name; #check #write }),
            },
            Shape::Optional => {
                let required = match &field.options.required_since {
                    Some(text) => {
                        let since = version(text)?;
                        quote!(else if w.version() >= #since {
                            return ::core::result::Result::Err(w.error(#tag, ::keyferry_ttlv::ErrorKind::Missing(#tag)));
                        })
                    }
                    None => quote!(),
                };
                quote!(if let ::core::option::Option::Some(value) = &self.#name { #check #write } #required)
            }
            Shape::Repeated => {
                let single = match &field.options.repeated_since {
                    Some(text) => {
                        let since = version(text)?;
                        quote!(if self.#name.len() > 1 && w.version() < #since {
                            return ::core::result::Result::Err(w.error(#tag, ::keyferry_ttlv::ErrorKind::Repeated(#tag)));
                        })
                    }
                    None => quote!(),
                };
                quote!(#single for value in &self.#name { #check #write })
            }
        });
    }
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

fn derive_decode(input: &DeriveInput) -> Result<TokenStream> {
    let name = &input.ident;
    let Some(fields) = fields(input)? else { return derive_choice(input) };
    let generics = bounded(&input.generics, &quote!(::keyferry_ttlv::Decode));
    let (impls, types, wheres) = generics.split_for_impl();
    let (mut lets, mut arms, mut ends, mut build) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut rest = quote!(return ::core::result::Result::Err(r.unexpected(child)));
    for field in &fields {
        let Field { name, inner, tag, span, .. } = field;
        let guard = match field.options.range()? {
            Some((since, until)) => quote!(if r.has(#since, #until)),
            None => quote!(),
        };
        let local = format_ident!("field_{}", name);
        if field.shape == Shape::Extra {
            lets.push(quote!(let mut #local = ::keyferry_ttlv::Extra::default();));
            rest = quote!(#local.keep(child, r)?);
            build.push(quote!(#name: #local));
            continue;
        }
        if let Some(how) = &field.options.group {
            let taken = format_ident!("taken_{}", name);
            lets.push(quote!(let mut #local: #inner = ::core::default::Default::default();));
            lets.push(quote!(let mut #taken = 0usize;));
            arms.push(quote_spanned!(*span=> _ if <#inner as ::keyferry_ttlv::Group>::accepts(#how, child, r) => {
                ::keyferry_ttlv::Group::absorb(&mut #local, #how, #taken, child, r)?;
                #taken += 1;
            }));
            ends.push(quote_spanned!(*span=> ::keyferry_ttlv::Group::finish(&#local, #how, #taken, item, r)?;));
            build.push(quote!(#name: #local));
            continue;
        }
        let take = match (field.shape, field.options.choice) {
            (Shape::Repeated, false) => quote_spanned!(*span=> #local.push(r.child::<#inner>(child)?)),
            (Shape::Repeated, true) => {
                quote_spanned!(*span=> #local.push(<#inner as ::keyferry_ttlv::Choice>::decode_choice(child, r)?))
            }
            (_, false) => quote_spanned!(*span=> r.once::<#inner>(&mut #local, child)?),
            (_, true) => quote_spanned!(*span=> {
                if #local.is_some() {
                    return ::core::result::Result::Err(r.error(child, ::keyferry_ttlv::ErrorKind::Repeated(child.tag())));
                }
                #local = ::core::option::Option::Some(<#inner as ::keyferry_ttlv::Choice>::decode_choice(child, r)?)
            }),
        };
        arms.push(if field.options.choice {
            quote_spanned!(*span=> tag if <#inner as ::keyferry_ttlv::Choice>::accepts(tag, r) => #take,)
        } else {
            quote!(#tag #guard => #take,)
        });
        match field.shape {
            Shape::Repeated => {
                lets.push(
                    quote!(let mut #local: ::keyferry_ttlv::__private::Vec<#inner> = ::keyferry_ttlv::__private::Vec::new();),
                );
                build.push(quote!(#name: #local));
            }
            Shape::Optional => {
                lets.push(quote!(let mut #local: ::core::option::Option<#inner> = ::core::option::Option::None;));
                build.push(quote!(#name: #local));
            }
            _ => {
                lets.push(quote!(let mut #local: ::core::option::Option<#inner> = ::core::option::Option::None;));
                let absent = if field.options.choice && field.options.tag.is_none() { quote!(item.tag()) } else { quote!(#tag) };
                let absent = match &field.options.default {
                    Some(default) => default.clone(),
                    None => quote!(return ::core::result::Result::Err(r.missing(item, #absent))),
                };
                build.push(quote!(#name: match #local {
                    ::core::option::Option::Some(value) => value,
                    ::core::option::Option::None => #absent,
                }));
            }
        }
    }
    Ok(quote! {
        #[automatically_derived]
        impl #impls ::keyferry_ttlv::Decode for #name #types #wheres {
            fn decode<'a>(item: ::keyferry_ttlv::Item<'a>, r: &::keyferry_ttlv::Reader<'a>) -> ::keyferry_ttlv::Result<Self> {
                #(#lets)*
                let mut children = r.enter(item)?;
                while let ::core::option::Option::Some(child) = children.step() {
                    match child.tag() {
                        #(#arms)*
                        _ => #rest,
                    }
                }
                r.leave(children)?;
                #(#ends)*
                ::core::result::Result::Ok(Self { #(#build),* })
            }
        }
    })
}

fn derive_choice(input: &DeriveInput) -> Result<TokenStream> {
    let name = &input.ident;
    let variants = variants(input)?;
    let names: Vec<_> = variants.iter().map(|v| &v.name).collect();
    let types: Vec<_> = variants.iter().map(|v| &v.ty).collect();
    let tags: Vec<_> = variants.iter().map(|v| &v.tag).collect();
    let has: Vec<_> = variants.iter().map(|v| &v.has).collect();
    let require: Vec<_> = variants.iter().map(|v| &v.require).collect();
    Ok(quote! {
        #[automatically_derived]
        impl ::keyferry_ttlv::Choice for #name {
            fn tag(&self) -> ::keyferry_ttlv::Tag {
                match self {
                    #(#name::#names(_) => #tags,)*
                }
            }
            fn accepts(tag: ::keyferry_ttlv::Tag, r: &::keyferry_ttlv::Reader<'_>) -> bool {
                match tag {
                    #(#tags #has => true,)*
                    _ => false,
                }
            }
            fn decode_choice<'a>(item: ::keyferry_ttlv::Item<'a>, r: &::keyferry_ttlv::Reader<'a>) -> ::keyferry_ttlv::Result<Self> {
                match item.tag() {
                    #(#tags #has => r.child::<#types>(item).map(#name::#names),)*
                    _ => ::core::result::Result::Err(r.unexpected(item)),
                }
            }
            fn encode_choice(&self, w: &mut ::keyferry_ttlv::Writer) -> ::keyferry_ttlv::Result<()> {
                match self {
                    #(#name::#names(value) => { #require ::keyferry_ttlv::Encode::encode(value, #tags, w) })*
                }
            }
        }
    })
}

fn derive_downgrade(input: &DeriveInput) -> Result<TokenStream> {
    let name = &input.ident;
    let has = |options: &Options| -> Result<TokenStream> {
        Ok(match options.range()? {
            Some((since, until)) => quote!(version.is_within(#since, #until)),
            None => quote!(true),
        })
    };
    let Some(fields) = fields(input)? else {
        let mut arms = Vec::new();
        for variant in variants(input)? {
            let (form, has) = (&variant.name, &variant.within);
            arms.push(quote!(#name::#form(value) => #has && ::keyferry_ttlv::Downgrade::downgrade(value, version, loss),));
        }
        return Ok(quote! {
            #[automatically_derived]
            impl ::keyferry_ttlv::Downgrade for #name {
                fn downgrade(&mut self, version: ::keyferry_ttlv::Version, loss: &mut ::keyferry_ttlv::Loss) -> bool {
                    match self { #(#arms)* }
                }
            }
        });
    };
    let generics = bounded(&input.generics, &quote!(::keyferry_ttlv::Downgrade));
    let generics = bounded(&generics, &quote!(::keyferry_ttlv::Encode));
    let (impls, types, wheres) = generics.split_for_impl();
    let mut steps = Vec::new();
    for field in &fields {
        let Field { name, tag, span, options, inner, .. } = field;
        let has = has(options)?;
        steps.push(match (field.shape, options.choice) {
            (Shape::Extra, _) => continue,
            (Shape::Group, _) => {
                let how = &options.group;
                quote_spanned!(*span=> if !<#inner as ::keyferry_ttlv::Group>::downgrade(&mut self.#name, #how, version, loss) {
                    return false;
                })
            }
            (Shape::Required, false) => {
                let whole = quote_spanned!(*span=> loss.keeps(&mut self.#name, #tag, #has, version));
                match &options.default {
                    Some(default) => quote!({
                        let default: #inner = #default;
                        if self.#name != default && !#whole {
                            self.#name = default;
                        }
                    }),
                    None => quote!(if !#whole { return false; }),
                }
            }
            (Shape::Required, true) => quote_spanned!(*span=> if !loss.keeps_choice(&mut self.#name, version) { return false; }),
            (Shape::Optional, choice) => {
                let step = if choice {
                    quote_spanned!(*span=> loss.optional_choice(&mut self.#name, version);)
                } else {
                    quote_spanned!(*span=> if !loss.optional(&mut self.#name, #tag, #has, version) { return false; })
                };
                let required = match &options.required_since {
                    Some(text) => {
                        let since = version(text)?;
                        quote!(if self.#name.is_none() && version >= #since { return false; })
                    }
                    None => quote!(),
                };
                quote!(#step #required)
            }
            (Shape::Repeated, true) => {
                quote_spanned!(*span=> self.#name.retain_mut(|value| loss.keeps_choice(value, version));)
            }
            (Shape::Repeated, false) => {
                let once = match &options.repeated_since {
                    Some(text) => {
                        let since = version(text)?;
                        quote!(version < #since)
                    }
                    None => quote!(false),
                };
                quote_spanned!(*span=> if !loss.repeated(&mut self.#name, #tag, #has, #once, version) { return false; })
            }
        });
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
