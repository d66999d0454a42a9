//! Makes cargo look at the migrations: the macro that embeds them does not say that it reads them.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
