"""Make the sample data file of the package from its source.

    python scripts/pack_sample.py                        # obtains the source from the registry
    python scripts/pack_sample.py pyrealm-1.0.0.tar.gz   # has it already

The source is one file in the source archive of pyrealm 1.0.0 (50 MB), an excerpt of WFDE5. Its
checksum is verified, so the same source always gives the same numbers.
"""

import argparse
import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import xarray as xr

from weatherdiff.data.samples import PRECISION, SAMPLES

REQUIREMENT = "pyrealm==1.0.0"
MEMBER = "pyrealm-1.0.0/pyrealm_build_data/uk_data/UK_WFDE5_FAPAR_2018_JuneJuly.nc"
SHA256 = "544af3471486d5b3b9afe96f97299cc8fabe4f830f692e86d2bd3f337ad84696"
FILL = np.int16(-32768)


def download(folder: Path) -> Path:
    """Obtain the source archive of the registry package through pip."""
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:"]
    subprocess.run([*pip, "--dest", str(folder), REQUIREMENT], check=True)
    return next(folder.glob("pyrealm-*.tar.gz"))


def extract(archive: Path, folder: Path) -> Path:
    """Take out the one file needed and check its SHA-256."""
    with tarfile.open(archive) as tar:
        source = tar.extractfile(MEMBER)
        if source is None:
            raise SystemExit(f"{MEMBER} in {archive} is not a file")
        content = source.read()
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise SystemExit(f"SHA-256 of {MEMBER} is {found}, expected {SHA256}")
    path = folder / Path(MEMBER).name
    path.write_bytes(content)
    return path


def pack(ds: xr.Dataset, path: Path) -> None:
    """Write the variables of ``PRECISION`` as 16-bit integers, deflated.

    Parameters
    ----------
    ds : xr.Dataset
        Variables (time, lat, lon), NaN where there is no value.
    path : pathlib.Path
        The netCDF-4 file to write, one chunk a variable: the whole is read in a blink, and a
        finer one compresses worse.

    Raises
    ------
    SystemExit
        A value does not fit in 16 bits at the precision of its variable.
    """
    packed = ds[list(PRECISION)]
    encoding = {}
    for name, precision in PRECISION.items():
        quantum = 2 * precision
        largest = float(np.abs(packed[name]).max())
        if largest > quantum * np.iinfo(np.int16).max:
            raise SystemExit(f"{name} reaches {largest:g}, too large for steps of {quantum:g}")
        encoding[name] = {
            "dtype": "int16",
            "scale_factor": np.float32(quantum),  # float32, so that it is read as float32
            "_FillValue": FILL,
            "zlib": True,
            "complevel": 9,
            "shuffle": True,
            "chunksizes": packed[name].shape,
        }
        packed[name].encoding = {}
    history = f"{packed.attrs.get('history', '')}\nPacked by weatherdiff's scripts/pack_sample.py"
    packed.attrs["history"] = f"{history} from {REQUIREMENT}, {MEMBER} (SHA-256 {SHA256})".strip()
    packed.to_netcdf(path, engine="netcdf4", encoding=encoding)


def main() -> None:
    """Obtain, extract, verify and pack."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", nargs="?", type=Path, help="pyrealm-1.0.0.tar.gz")
    parser.add_argument("--output", type=Path, default=SAMPLES["uk-2018"])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        archive = arguments.archive or download(Path(folder))
        with xr.open_dataset(extract(archive, Path(folder)), engine="netcdf4") as ds:
            pack(ds.load(), arguments.output)
    print(f"{arguments.output}: {arguments.output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
