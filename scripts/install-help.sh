#!/bin/sh
# usage: install-help.sh RINGFOLD MANDIR DATADIR, by `meson install`
# Writes what ringfold says of itself where manual pages and completions belong.
set -eu
ringfold=$1 man=$MESON_INSTALL_DESTDIR_PREFIX/$2 data=$MESON_INSTALL_DESTDIR_PREFIX/$3
put() {
	mkdir -p "$(dirname "$2")"
	"$ringfold" help "--$1" >"$2"
	chmod 644 "$2"
}
put man "$man/man1/ringfold.1"
put bash "$data/bash-completion/completions/ringfold"
put zsh "$data/zsh/vendor-completions/_ringfold"
put fish "$data/fish/vendor_completions.d/ringfold.fish"
