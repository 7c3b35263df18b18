/// Declares a transparent integer with named constants and a `Debug` that prints the name.
#[macro_export]
macro_rules! open_enum {
    ($(#[$meta:meta])* $vis:vis enum $name:ident : $repr:ty { $($(#[$item:meta])* $variant:ident = $value:expr),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(transparent)]
        $vis struct $name(pub $repr);

        impl $name {
            $($(#[$item])* pub const $variant: Self = Self($value);)*

            /// The constant's name, if this value has one.
            #[allow(unreachable_patterns, reason = "two names may share a value; the first wins")]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 { $(x if x == $value => Some(stringify!($variant)),)* _ => None }
            }

            /// The value with this constant's name.
            pub fn named(name: &str) -> Option<Self> {
                match name { $(stringify!($variant) => Some(Self($value)),)* _ => None }
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, concat!(stringify!($name), "({:#x})"), self.0),
                }
            }
        }
    };
}
