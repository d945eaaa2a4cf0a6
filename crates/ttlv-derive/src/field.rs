//! The description that the derives work from: a structure's fields and a choice's forms, with their `#[ttlv(…)]` options.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{
    Data, DeriveInput, Error, Expr, ExprLit, Fields, GenericArgument, Lit, LitStr, PathArguments,
    Result, Type,
};

/// The options of a `#[ttlv(…)]` attribute, on a type, a field or a variant.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) tag: Option<TokenStream>,
    pub(crate) since: Option<LitStr>,
    pub(crate) until: Option<LitStr>,
    pub(crate) required_since: Option<LitStr>,
    pub(crate) required_until: Option<LitStr>,
    pub(crate) at_least_one: bool,
    pub(crate) vital: bool,
    pub(crate) downgrade: Option<Expr>,
    pub(crate) implied: Option<Expr>,
    pub(crate) repeated_since: Option<LitStr>,
    pub(crate) group: Option<Expr>,
    pub(crate) default: Option<TokenStream>,
    pub(crate) choice: bool,
    pub(crate) extra: bool,
}

/// The value itself: one that came through a macro stands in an invisible group.
pub(crate) fn bare_value(value: &Expr) -> &Expr {
    match value {
        Expr::Group(group) => bare_value(&group.expr),
        other => other,
    }
}

/// The tag that an attribute names, in a form that can stand in a pattern.
pub(crate) fn tag(value: Expr) -> Result<TokenStream> {
    let Expr::Lit(ExprLit {
        lit: Lit::Int(literal),
        ..
    }) = bare_value(&value)
    else {
        return match bare_value(&value) {
            Expr::Path(_) => Ok(quote!(#value)),
            _ => Err(Error::new(value.span(), "a tag is a number or a constant")),
        };
    };
    let number: u32 = literal.base10_parse()?;
    if !matches!(number >> 16, 0x42 | 0x54) {
        return Err(Error::new(
            literal.span(),
            "a tag is 0x42…, or 0x54… for a vendor's",
        ));
    }
    Ok(quote!(<::keyferry_ttlv::__private::Numbered<#number>>::TAG))
}

/// Reads the `#[ttlv(…)]` attributes.
pub(crate) fn options(attributes: &[syn::Attribute]) -> Result<Options> {
    let mut options = Options::default();
    for attribute in attributes.iter().filter(|a| a.path().is_ident("ttlv")) {
        attribute.parse_nested_meta(|meta| {
            let name = meta
                .path
                .get_ident()
                .map(ToString::to_string)
                .unwrap_or_default();
            match name.as_str() {
                "tag" => options.tag = Some(tag(meta.value()?.parse()?)?),
                "since" => options.since = Some(meta.value()?.parse()?),
                "until" => options.until = Some(meta.value()?.parse()?),
                "required_since" => options.required_since = Some(meta.value()?.parse()?),
                "required_until" => options.required_until = Some(meta.value()?.parse()?),
                "at_least_one" => options.at_least_one = true,
                "vital" => options.vital = true,
                "downgrade" => options.downgrade = Some(meta.value()?.parse()?),
                "implied" => options.implied = Some(meta.value()?.parse()?),
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
    /// Fails when an option is given that has no effect on `what`.
    pub(crate) fn only(&self, allowed: &[&str], what: &str, span: Span) -> Result<()> {
        let given = [
            ("tag", self.tag.is_some()),
            ("since", self.since.is_some()),
            ("until", self.until.is_some()),
            ("required_since", self.required_since.is_some()),
            ("required_until", self.required_until.is_some()),
            ("at_least_one", self.at_least_one),
            ("vital", self.vital),
            ("downgrade", self.downgrade.is_some()),
            ("implied", self.implied.is_some()),
            ("repeated_since", self.repeated_since.is_some()),
            ("group", self.group.is_some()),
            ("default", self.default.is_some()),
            ("choice", self.choice),
            ("extra", self.extra),
        ];
        match given
            .iter()
            .find(|(name, is_given)| *is_given && !allowed.contains(name))
        {
            Some((name, _)) => Err(Error::new(span, format!("{name} has no effect on {what}"))),
            None => Ok(()),
        }
    }

    /// Fails when an option has no effect on a field of this kind: an extra, a group, a choice.
    fn check_kind(&self, span: Span) -> Result<()> {
        if self.extra {
            self.only(&["extra"], "an extra", span)
        } else if self.group.is_some() {
            let what = "a group, which has versions of its own";
            self.only(&["group", "vital"], what, span)
        } else if self.choice {
            let what = "a choice, whose forms have versions of their own";
            self.only(&["choice", "tag", "vital"], what, span)
        } else if self.downgrade.is_some() {
            Err(Error::new(span, "downgrade is for a type"))
        } else {
            Ok(())
        }
    }

    /// Fails when an option does not go with how often the field may stand.
    fn check_shape(&self, shape: Shape, span: Span) -> Result<()> {
        let wrong = [
            (
                self.required_since.is_some() && shape != Shape::Optional,
                "required_since is for an Option",
            ),
            (
                self.required_until.is_some() && shape != Shape::Optional,
                "required_until is for an Option",
            ),
            (
                self.at_least_one && shape != Shape::Repeated,
                "at_least_one is for a Vec",
            ),
            (
                self.implied.is_some() && self.required_since.is_none(),
                "implied is for what is required since some version",
            ),
            (
                self.repeated_since.is_some() && shape != Shape::Repeated,
                "repeated_since is for a Vec",
            ),
            (
                self.default.is_some() && shape != Shape::Required,
                "default is for a field that is neither an Option nor a Vec",
            ),
        ];
        match wrong.iter().find(|(is_wrong, _)| *is_wrong) {
            Some((_, why)) => Err(Error::new(span, why)),
            None => Ok(()),
        }
    }

    /// Whether `version` demands a field that may be absent in others; nothing where none does.
    pub(crate) fn required(&self, version_expr: &TokenStream) -> Result<Option<TokenStream>> {
        let since = self
            .required_since
            .as_ref()
            .map(|text| version(text).map(|since| quote!(#version_expr >= #since)));
        let until = self
            .required_until
            .as_ref()
            .map(|text| version(text).map(|until| quote!(#version_expr <= #until)));
        Ok(match (since.transpose()?, until.transpose()?) {
            (Some(since), Some(until)) => Some(quote!(#since || #until)),
            (one, other) => one.or(other),
        })
    }

    /// The versions that have it, where not all do.
    pub(crate) fn range(&self) -> Result<Option<(TokenStream, TokenStream)>> {
        if self.since.is_none() && self.until.is_none() {
            return Ok(None);
        }
        if let (Some(since), Some(until)) = (&self.since, &self.until)
            && numbers(since) > numbers(until)
        {
            return Err(Error::new(
                until.span(),
                "no version lies between since and until",
            ));
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
pub(crate) fn numbers(text: &LitStr) -> Option<(u8, u8)> {
    let text = text.value();
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// `"1.2"` as a `Version`.
pub(crate) fn version(text: &LitStr) -> Result<TokenStream> {
    let Some((major, minor)) = numbers(text) else {
        return Err(Error::new(
            text.span(),
            "a version is written \"major.minor\"",
        ));
    };
    Ok(quote!(::keyferry_ttlv::Version::new(#major, #minor)))
}

/// How often a field may stand, or that it takes other items than those of its tag.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Shape {
    Required,
    Optional,
    Repeated,
    Group,
    Extra,
}

/// A field of a structure.
pub(crate) struct Field {
    pub(crate) name: syn::Ident,
    pub(crate) inner: Type,
    pub(crate) shape: Shape,
    pub(crate) options: Options,
    pub(crate) tag: TokenStream,
    pub(crate) span: Span,
}

impl Field {
    /// The field as its attributes describe it; nothing when it has no name.
    fn of(field: &syn::Field) -> Result<Option<Field>> {
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
        options.check_kind(span)?;
        options.check_shape(shape, span)?;
        let tag = match &options.tag {
            Some(tag) => quote!(#tag),
            None => quote_spanned!(span=> <#inner as ::keyferry_ttlv::Tagged>::TAG),
        };
        let inner = inner.clone();
        Ok(field.ident.clone().map(|name| Field {
            name,
            inner,
            shape,
            options,
            tag,
            span,
        }))
    }

    /// Whether an item could belong to this field and to another one.
    pub(crate) fn shares(&self, other: &Field) -> bool {
        let plain = |field: &Field| {
            !matches!(field.shape, Shape::Group | Shape::Extra) && !field.options.choice
        };
        let first = |field: &Field| {
            field
                .options
                .since
                .as_ref()
                .and_then(numbers)
                .unwrap_or((0, 0))
        };
        let last = |field: &Field| {
            field
                .options
                .until
                .as_ref()
                .and_then(numbers)
                .unwrap_or((u8::MAX, u8::MAX))
        };
        plain(self)
            && plain(other)
            && self.tag.to_string() == other.tag.to_string()
            && first(self) <= last(other)
            && first(other) <= last(self)
    }
}

/// The type itself: one that came through a macro stands in an invisible group.
pub(crate) fn bare(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => bare(&group.elem),
        other => other,
    }
}

/// `T` of `Wrapper<T>`.
pub(crate) fn argument<'t>(ty: &'t Type, wrapper: &str) -> Option<&'t Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last()?;
    if last.ident != wrapper {
        return None;
    }
    let PathArguments::AngleBracketed(arguments) = &last.arguments else {
        return None;
    };
    match arguments.args.first()? {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    }
}

/// `Vec<u8>` is a Byte String, not a repeated field.
pub(crate) fn repeated(ty: &Type) -> Option<&Type> {
    argument(ty, "Vec")
        .filter(|inner| !matches!(inner, Type::Path(path) if path.path.is_ident("u8")))
}

/// The fields of a structure; nothing for an enum.
pub(crate) fn fields(input: &DeriveInput) -> Result<Option<Vec<Field>>> {
    let Data::Struct(data) = &input.data else {
        return Ok(None);
    };
    let Fields::Named(named) = &data.fields else {
        return Err(Error::new(
            input.ident.span(),
            "only structures with named fields and enums can be derived",
        ));
    };
    let mut fields: Vec<Field> = Vec::new();
    for field in &named.named {
        let Some(field) = Field::of(field)? else {
            continue;
        };
        let is_extra = |field: &Field| field.shape == Shape::Extra;
        if is_extra(&field) && fields.iter().any(is_extra) {
            return Err(Error::new(field.span, "a second extra"));
        }
        if fields.iter().any(|other| field.shares(other)) {
            return Err(Error::new(
                field.span,
                "another field has this tag in some version",
            ));
        }
        fields.push(field);
    }
    Ok(Some(fields))
}

/// Checks when the type is compiled that no two fields have one tag, under whatever names, in one version.
pub(crate) fn distinct(fields: &[Field], input: &DeriveInput) -> Result<TokenStream> {
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
            None => (
                quote!(::keyferry_ttlv::Version::V1_0),
                quote!(::core::option::Option::None),
            ),
        };
        tags.push(quote!((#tag, #since, #until)));
    }
    let why = format!("two fields of {} have one tag in some version", input.ident);
    Ok(quote!(
        const _: () = ::core::assert!(::keyferry_ttlv::__private::distinct(&[#(#tags),*]), #why);
    ))
}

/// The type's parameters, each of which must itself be what is derived.
pub(crate) fn bounded(generics: &syn::Generics, bound: &TokenStream) -> syn::Generics {
    let mut generics = generics.clone();
    for parameter in generics.type_params_mut() {
        parameter.bounds.push(syn::parse_quote!(#bound));
    }
    generics
}

/// A form of a choice.
pub(crate) struct Variant {
    pub(crate) name: syn::Ident,
    pub(crate) ty: Type,
    pub(crate) tag: TokenStream,
    /// Behind the tag in a pattern, and before writing.
    pub(crate) has: TokenStream,
    pub(crate) require: TokenStream,
    /// Whether `version` has it.
    pub(crate) within: TokenStream,
}

/// The forms of a choice.
pub(crate) fn variants(input: &DeriveInput) -> Result<Vec<Variant>> {
    if let Some(parameter) = input.generics.params.first() {
        return Err(Error::new(parameter.span(), "a choice has no parameters"));
    }
    options(&input.attrs)?.only(&[], "a choice", input.ident.span())?;
    let Data::Enum(data) = &input.data else {
        return Err(Error::new(input.ident.span(), "a union has no TTLV form"));
    };
    let mut variants = Vec::new();
    for variant in &data.variants {
        let options = options(&variant.attrs)?;
        let Fields::Unnamed(unnamed) = &variant.fields else {
            return Err(Error::new(
                variant.ident.span(),
                "each variant of a choice holds one value",
            ));
        };
        let (Some(field), 1) = (unnamed.unnamed.first(), unnamed.unnamed.len()) else {
            return Err(Error::new(
                variant.ident.span(),
                "each variant of a choice holds one value",
            ));
        };
        options.only(
            &["tag", "since", "until"],
            "a form of a choice",
            variant.ident.span(),
        )?;
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
        variants.push(Variant {
            name: variant.ident.clone(),
            ty,
            tag,
            has,
            require,
            within,
        });
    }
    Ok(variants)
}
