//! Properties of the pure core over drawn inputs, against models too simple to be wrong.

mod backends;
mod balance;
mod idle_limit;
mod proxy_header;
mod timer;
