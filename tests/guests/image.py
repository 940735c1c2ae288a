#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Makes what the test guests boot, from Debian packages that are unpacked and never installed.

The result is a directory with, for each kernel of KERNELS, `<name>.kernel` (an ELF file: QEMU starts it through its
PVH entry, which skips the firmware's and the decompressor's work) and `<name>.initrd` (busybox, iperf3, ethtool,
netperf-like helpers and the virtio modules of that kernel). Nothing in it needs root to be made.

It is cached in ${XDG_CACHE_HOME:-~/.cache}/lasthop/guest-<hash of this file and init>. A lock file lets one builder
work at a time; it builds in a temporary directory and renames that into place, so a cached image is always whole.
Run as a program, it prints the directory.
"""

import fcntl
import hashlib
import lzma
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zlib

HERE = pathlib.Path(__file__).resolve().parent
UNUSED_AFTER = 14 * 86400  # seconds until an image of another recipe is taken for forgotten

# name: the package that holds the kernel, or that depends on the one that does.
KERNELS = {
    "linux-6.1": "linux-image-cloud-amd64",
    "linux-6.12": "linux-image-6.12-cloud-amd64",
    "uml": "user-mode-linux",
}
TOOLS = ["busybox-static", "iperf3", "libiperf0", "libsctp1", "libssl3", "ethtool", "libmnl0", "libc6", "lz4", "zstd"]
FILES = [
    "bin/busybox",
    "usr/bin/iperf3",
    "sbin/ethtool",
    "lib64/ld-linux-x86-64.so.2",
] + ["lib/x86_64-linux-gnu/" + name for name in (
    "libiperf.so.0", "libsctp.so.1", "libcrypto.so.3", "libmnl.so.0", "libc.so.6", "libm.so.6")]
# Loaded at boot, in this order; the others wait for a modprobe in the guest.
BOOT_MODULES = ["virtio_pci", "virtio_net", "ipv6"]
MODULES = BOOT_MODULES + ["8021q", "pktgen", "macvlan", "bridge"]


class ImageError(Exception):
    """The image cannot be made; the message says why and what to do."""


def cache_root():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(base) / "lasthop"


def recipe_hash():
    digest = hashlib.sha256()
    for path in (HERE / "image.py", HERE / "init"):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def command(*argv, **kwargs):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs)
    if done.returncode:
        raise ImageError(f"`{' '.join(map(str, argv))}` failed: {done.stderr.strip()}")
    return done.stdout


def kernel_package(package):
    """Follow a meta-package to the package with the files."""
    text = command("apt-cache", "show", "--no-all-versions", package)
    found = re.search(r"^Depends:.*?(linux-image-[^ ,]+)", text, re.M)
    return found.group(1) if found else package


def download(into):
    """Fetch and unpack all packages; return one root directory a kernel, and that of the tools."""
    try:
        kernels = {name: kernel_package(package) for name, package in KERNELS.items()}
    except ImageError:
        # A fresh machine has no package lists yet; only root may fetch them.
        command("apt-get", "update", "-q")
        kernels = {name: kernel_package(package) for name, package in KERNELS.items()}
    packages = into / "packages"
    packages.mkdir()
    # Without this apt drops to a user that cannot write here, and complains.
    sandbox = ["-o", "APT::Sandbox::User=root"] if os.getuid() == 0 else []
    command("apt-get", "download", "-q", *sandbox, *kernels.values(), *TOOLS, cwd=packages)
    roots = {}
    for deb in sorted(packages.iterdir()):
        name = deb.name.split("_")[0]
        kernel = [key for key, value in kernels.items() if value == name]
        root = into / (kernel[0] if kernel else "tools")
        roots[root.name] = root
        command("dpkg-deb", "-x", deb, root)
        deb.unlink()
    return roots


def vmlinux(bzimage, programs):
    """The ELF kernel inside a bzImage; where it lies is told by the boot protocol's header (2.08 and later)."""
    data = bzimage.read_bytes()
    if data[0x202:0x206] != b"HdrS":
        raise ImageError(f"{bzimage} is no bzImage")
    word = lambda at: int.from_bytes(data[at:at + 4], "little")
    start = (data[0x1f1] + 1) * 512 + word(0x248)
    payload = data[start:start + word(0x24c)]
    if payload.startswith(b"\xfd7zXZ"):
        return lzma.LZMADecompressor().decompress(payload)
    if payload.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(wbits=31).decompress(payload)
    for magic, program in ((b"\x28\xb5\x2f\xfd", "zstd"), (b"\x02\x21\x4c\x18", "lz4")):
        if payload.startswith(magic):
            # The unpacked size follows the stream in four bytes, which these programs would take for garbage.
            unpack = [programs / program, "-dc"]
            return subprocess.run(unpack, input=payload[:-4], stdout=subprocess.PIPE, check=True).stdout
    raise ImageError(f"{bzimage}: unknown compression {payload[:4].hex()}")


def modules(root, tree, busybox):
    """Copy MODULES with all that they depend on from an unpacked kernel into the guest's tree."""
    found = {}
    version = None
    for path in root.rglob("*.ko*"):
        found[path.name.split(".")[0].replace("-", "_")] = path
        version = version or re.search(r"modules/([^/]+)/kernel/", str(path)).group(1)
    wanted = [name for name in MODULES if name in found]
    target = tree / "lib/modules" / version
    target.mkdir(parents=True)
    done = set()
    while wanted:
        name = wanted.pop()
        if name in done or name not in found:
            continue
        done.add(name)
        data = found[name].read_bytes()
        if found[name].suffix == ".xz":
            data = lzma.decompress(data)
        (target / f"{name}.ko").write_bytes(data)
        depends = re.search(rb"\0depends=([^\0]*)\0", data)
        wanted += [d.replace("-", "_") for d in depends.group(1).decode().split(",") if d]
    command(busybox, "depmod", "-b", tree, version)
    (tree / "etc").mkdir()
    (tree / "etc/modules").write_text(" ".join(name for name in BOOT_MODULES if name in done))


def tools(root, tree):
    """The programs and libraries, in a flat /bin and /lib."""
    for name in ("bin", "lib", "lib64", "proc", "sys", "dev", "tmp", "run"):
        (tree / name).mkdir(parents=True)
    for name in FILES:
        path = root / name
        if not path.exists():
            path = root / "usr" / name
        folder = "lib64" if name.startswith("lib64") else "lib" if ".so" in name else "bin"
        shutil.copy(path.resolve() if path.exists() else path, tree / folder / path.name)
    for applet in command(tree / "bin/busybox", "--list").split():
        link = tree / "bin" / applet
        if not link.exists():
            link.symlink_to("busybox")
    shutil.copy(HERE / "init", tree / "init")


def cpio(tree, out):
    """Write tree as a newc archive. All files belong to root in it, whoever makes it."""
    def entry(number, name, mode, data):
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)

    with open(out, "wb") as file:
        for number, path in enumerate(sorted(tree.rglob("*")), 1):
            mode = path.lstat().st_mode
            data = os.readlink(path).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
            file.write(entry(number, str(path.relative_to(tree)), mode, data))
        file.write(entry(0, "TRAILER!!!", 0, b""))


def make(out, work):
    roots = download(work)
    busybox = roots["tools"] / "bin/busybox"
    for name in KERNELS:
        tree = work / "tree" / name
        tools(roots["tools"], tree)
        modules(roots[name], tree, busybox)
        cpio(tree, out / f"{name}.initrd")
        if name == "uml":
            shutil.copy(roots[name] / "usr/bin/linux.uml", out / "uml.kernel")
        else:
            bzimage = next((roots[name] / "boot").glob("vmlinuz-*"))
            (out / f"{name}.kernel").write_bytes(vmlinux(bzimage, roots["tools"] / "usr/bin"))


def forget_unused(cache, keep):
    for path in cache.glob("guest-*"):
        if path != keep and path.is_dir() and time.time() - path.stat().st_mtime > UNUSED_AFTER:
            shutil.rmtree(path, ignore_errors=True)


def build(say=lambda text: None):
    """Return the directory with the guests' kernels and initrds, made first if need be."""
    cache = cache_root()
    image = cache / f"guest-{recipe_hash()}"
    if image.is_dir():
        os.utime(image)
        return image
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not image.is_dir():
            say("making the guest image from Debian packages (once)")
            for left in cache.glob("building-*"):
                shutil.rmtree(left, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix="building-", dir=cache) as temporary:
                work = pathlib.Path(temporary)
                out = work / "image"
                out.mkdir()
                make(out, work)
                out.rename(image)
            forget_unused(cache, image)
    return image


if __name__ == "__main__":
    try:
        print(build(lambda text: print(text, file=sys.stderr)))
    except ImageError as error:
        sys.exit(f"image: {error}")
