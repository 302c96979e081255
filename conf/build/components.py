"""The crates that are linked into weir, from `cargo metadata`.

usage: components.py licences TARGET [--no-default-features]    their licences and copyright notices
       components.py sbom TARGET [--no-default-features]        CycloneDX 1.5, JSON
"""

import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path

NOTICES = re.compile(r"(LICEN[CS]E|COPYING|COPYRIGHT|NOTICE)", re.IGNORECASE)


def cargo(*arguments):
    command = ["cargo", *arguments, "--locked"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def linked(target, options):
    """The root, all packages by their id, and of each that is needed when weir runs, its own."""
    told = json.loads(
        cargo("metadata", "--format-version", "1", "--filter-platform", target, *options)
    )
    # Metadata also has what features of tests would bring.
    tree = cargo(
        *("tree", "-p", "weir-lb", "-e", "normal,no-proc-macro", "--target", target),
        *("--prefix", "none", "--format", "{p}", *options),
    )
    needed = {tuple(line.split()[:2]) for line in tree.splitlines() if line}
    packages = {it["id"]: it for it in told["packages"]}
    is_needed = {key: (it["name"], "v" + it["version"]) in needed for key, it in packages.items()}
    found = {
        node["id"]: sorted(it["pkg"] for it in node["deps"] if is_needed[it["pkg"]])
        for node in told["resolve"]["nodes"]
        if is_needed[node["id"]]
    }
    root = next(it for it in found if packages[it]["name"] == "weir-lb")
    return root, packages, found


def licences(root, packages, found):
    print("weir contains Rust's standard library (MIT OR Apache-2.0), if it is static the C library")
    print("musl (MIT), and these crates, in the form of a program.\n")
    crates = sorted((packages[it] for it in found), key=lambda it: it["name"])
    for crate in crates:
        print(f"{crate['name']} {crate['version']}: {crate['license']}")
    texts = {}
    for crate in crates:
        folder = Path(crate["manifest_path"]).parent
        for path in sorted(folder.iterdir()):
            if path.is_file() and NOTICES.match(path.name):
                text = path.read_text(errors="replace").strip()
                texts.setdefault(text, []).append(f"{crate['name']} {crate['version']}, {path.name}")
    for source in Path("target/toolchain").glob("musl_*.orig.tar.gz"):
        with tarfile.open(source) as archive:
            notice = next(it for it in archive.getmembers() if it.name.endswith("/COPYRIGHT"))
            texts[archive.extractfile(notice).read().decode().strip()] = ["musl, COPYRIGHT"]
    for text, owners in texts.items():
        print("\n" + "=" * 80 + "\n" + "\n".join(owners) + "\n" + "=" * 80 + "\n\n" + text)


def component(crate):
    name, version = crate["name"], crate["version"]
    told = {
        "type": "application" if name == "weir-lb" else "library",
        "bom-ref": f"{name}@{version}",
        "name": name,
        "version": version,
        "purl": f"pkg:cargo/{name}@{version}",
        "licenses": [{"expression": crate["license"].replace("/", " OR ")}],
    }
    if crate["repository"]:
        told["externalReferences"] = [{"type": "vcs", "url": crate["repository"]}]
    return told


def checksums():
    text = Path("Cargo.lock").read_text()
    pattern = r'name = "([^"]+)"\nversion = "([^"]+)"\nsource = "[^"]+"\nchecksum = "([0-9a-f]+)"'
    return {(name, version): checksum for name, version, checksum in re.findall(pattern, text)}


def sbom(root, packages, found):
    def reference(crate):
        return f"{packages[crate]['name']}@{packages[crate]['version']}"

    sums = checksums()
    components = []
    for crate in sorted(found, key=reference):
        if crate == root:
            continue
        told = component(packages[crate])
        checksum = sums.get((told["name"], told["version"]))
        if checksum:
            told["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        components.append(told)
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": component(packages[root])},
        "components": components,
        "dependencies": [
            {"ref": reference(crate), "dependsOn": [reference(it) for it in found[crate]]}
            for crate in sorted(found, key=reference)
        ],
    }
    print(json.dumps(document, indent=1))


def main():
    if len(sys.argv) < 3 or sys.argv[1] not in ("licences", "sbom"):
        sys.exit(__doc__)
    write = licences if sys.argv[1] == "licences" else sbom
    write(*linked(sys.argv[2], sys.argv[3:]))


if __name__ == "__main__":
    main()
