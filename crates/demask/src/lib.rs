//! demask as a library: every part of the engine under one name.
