mod loopback;
mod open_loop;
mod parsing;
mod statistics;
