#!/bin/sh
# make_root.sh PYTHON FOLDER: an arm64 Python, an emulator that runs it, and what a gateway installs.
#
# All of it goes into FOLDER, from this machine's Debian packages and PYTHON's wheels; nothing is installed, so any user
# may run this. It ends with FOLDER/python, which is started like any Python.
set -eu
python=$1
mkdir -p "$2"
folder=$(cd "$2" && pwd)
# 2.2 and 2.3 crash in the emulator of Debian 12, qemu 7.2.
litert=ai-edge-litert==2.1.6

for program in apt-get dpkg-deb; do
  command -v "$program" >/dev/null || { echo "expected Debian, with $program, received a system without it" >&2; exit 1; }
done
rm -rf "$folder/apt" "$folder/packages" "$folder/root" "$folder/aarch64" "$folder/here"
mkdir -p "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial" "$folder/packages" "$folder/root"
cd "$folder/packages"

# apt as an arm64 machine without any package would run it, with this machine's sources.
as_arm64() {
  program=$1
  shift
  "$program" -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=root \
    -o Dir::State="$folder/apt" -o Dir::State::status=/dev/null -o Dir::Cache="$folder/apt/cache" "$@"
}
as_arm64 apt-get update
version=$(as_arm64 apt-cache depends python3-minimal | sed -n 's/.*: python\(3\.[0-9]*\)-minimal$/\1/p')
as_arm64 apt-get download "python$version-minimal" "libpython$version-minimal" "libpython$version-stdlib" \
  libc6 libexpat1 libffi8 libgcc-s1 liblzma5 libstdc++6 zlib1g
for package in ./*.deb; do dpkg-deb -x "$package" "$folder/root"; done

if emulator=$(command -v qemu-aarch64-static); then
  ln -sf "$emulator" "$folder/qemu-aarch64-static"
else
  apt-get -qq -o APT::Sandbox::User=root download qemu-user-static || {
    echo "expected the package qemu-user-static, received none. Refresh the list of packages with: sudo apt-get update" >&2
    exit 1
  }
  dpkg-deb --fsys-tarfile qemu-user-static_*.deb | tar -x -O ./usr/bin/qemu-aarch64-static >"$folder/qemu-aarch64-static"
  chmod +x "$folder/qemu-aarch64-static"
fi
cd "$folder"
rm -rf apt packages

# What edge-vae itself requires, with the one version of LiteRT on both sides; the rest is in PYTHON's environment.
"$python" -c "from importlib.metadata import requires; print(*(line for line in requires('edge-vae')
  if 'extra ==' not in line and 'litert' not in line), sep='\n')" >"$folder/requirements.txt"
pip="$python -m pip --disable-pip-version-check install -qq"
$pip --target "$folder/aarch64" --python-version "$version" --only-binary=:all: --platform manylinux2014_aarch64 \
  --platform manylinux_2_27_aarch64 --platform manylinux_2_28_aarch64 -r "$folder/requirements.txt" "$litert"
$pip --target "$folder/here" --no-deps "$litert"

cat >"$folder/python" <<EOF
#!/bin/sh
here=\$(dirname "\$0")
exec "\$here/qemu-aarch64-static" -L "\$here/root" "\$here/root/usr/bin/python$version" "\$@"
EOF
chmod +x "$folder/python"
