//! How a section and a key of few words are defined: once, with everything that is known of them.

/// A key's name: its field's, unless that is a word of the language (`kind as "type"`).
macro_rules! key_name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $name:literal) => {
        $name
    };
}

macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $section:ident in $path:literal {
            $( $(#[doc = $doc:literal])+ $field:ident $(as $name:literal)?: $kind:ty = $default:expr, $range:expr
                $(, $words:literal)?; )*
        }
        $(tables { $( $table:ident: $table_kind:ty; )+ })?
        $(lists { $( $list:ident: $entry:ty, $entries_max:expr; )+ })?
        $(checked by $check:expr;)?
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub(crate) struct $section {
            $( $(#[doc = $doc])+ pub(crate) $field: $kind, )*
            $( $( #[doc = "A table."] pub(crate) $table: $table_kind, )+ )?
            $( $( #[doc = "A list of tables."] pub(crate) $list: Vec<$entry>, )+ )?
        }

        impl $section {
            /// What kind of section it is.
            pub(crate) const SHAPE: Shape = Shape {
                path: $path,
                about: &[$($about),+],
                keys: &[$( Key {
                    section: $path,
                    name: key_name!($field $($name)?),
                    about: &[$($doc),+],
                    default_words: concat!($($words)?),
                    kind: || <$kind as Setting>::kind(&$range),
                    default: || { let default: $kind = $default; default.show() },
                } ),*],
                subs: &[
                    $( $( Sub {
                        name: stringify!($table),
                        shape: &<$table_kind>::SHAPE,
                        entries_max: None,
                    }, )+ )?
                    $( $( Sub {
                        name: stringify!($list),
                        shape: &<$entry>::SHAPE,
                        entries_max: Some($entries_max),
                    }, )+ )?
                ],
            };
        }

        impl Default for $section {
            fn default() -> Self {
                Self {
                    $( $field: $default, )*
                    $( $( $table: Default::default(), )+ )?
                    $( $( $list: Vec::new(), )+ )?
                }
            }
        }

        impl Section for $section {
            fn shape(&self) -> &'static Shape {
                &Self::SHAPE
            }

            #[allow(unused_variables, reason = "a section may have no keys")]
            fn set(&mut self, name: &str, raw: Raw<'_>) -> Result<(), String> {
                match name {
                    $( key_name!($field $($name)?) => self.$field = Setting::read(raw, &$range)?, )*
                    _ => unreachable!("only known keys are set"),
                }
                #[allow(unreachable_code, reason = "a section may have no keys")]
                Ok(())
            }

            fn show(&self) -> Vec<(&'static str, String)> {
                let all = [$( (key_name!($field $($name)?), self.$field.show()) ),*];
                all.into_iter().filter(|(_, value): &(_, String)| !value.is_empty()).collect()
            }

            fn reveal(&self) -> Vec<(&'static str, String)> {
                let all = [$( (key_name!($field $($name)?), self.$field.reveal()) ),*];
                all.into_iter().filter(|(_, value): &(_, String)| !value.is_empty()).collect()
            }

            fn files(&self) -> Vec<PathBuf> {
                let all: Vec<Vec<PathBuf>> = vec![$( self.$field.files() ),*];
                all.concat()
            }

            fn sub_mut(&mut self, name: &str) -> &mut dyn Section {
                match name {
                    $( $( stringify!($table) => &mut self.$table, )+ )?
                    $( $( stringify!($list) => {
                        self.$list.push(Default::default());
                        self.$list.last_mut().expect("an entry was just added")
                    } )+ )?
                    _ => unreachable!("only known tables are read"),
                }
            }

            fn subs(&self, name: &str) -> Vec<&dyn Section> {
                match name {
                    $( $( stringify!($table) => vec![&self.$table], )+ )?
                    $( $( stringify!($list) => self.$list.iter().map(|entry| entry as &dyn Section).collect(), )+ )?
                    _ => unreachable!("only known tables are shown"),
                }
            }

            fn check(&self) -> Result<(), Unfit> {
                $( return ($check)(self); )?
                #[allow(unreachable_code, reason = "most sections have nothing to check as a whole")]
                Ok(())
            }
        }
    };
}

/// A key whose value is one of a few words.
macro_rules! choice {
    (
        $(#[doc = $about:literal])+
        $choice:ident { $( $(#[doc = $doc:literal])+ $variant:ident = $word:literal, )+ }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $choice { $( $(#[doc = $doc])+ $variant, )+ }

        words! { $choice { $( $variant = $word, )+ } }
    };
}

/// The same for a type of another crate.
macro_rules! words {
    ($choice:ident { $( $variant:ident = $word:literal, )+ }) => {
        impl Setting for $choice {
            fn kind(_: &RangeInclusive<u64>) -> String {
                [$( concat!("`\"", $word, "\"`") ),+].join(" or ")
            }

            fn read(raw: Raw<'_>, _: &RangeInclusive<u64>) -> Result<Self, String> {
                match raw.text() {
                    $( Some($word) => Ok(Self::$variant), )+
                    _ => Err(["must be ", &[$( concat!("\"", $word, "\"") ),+].join(" or ")].concat()),
                }
            }

            fn show(&self) -> String {
                match self {
                    $( Self::$variant => concat!("\"", $word, "\"").into(), )+
                }
            }
        }
    };
}
