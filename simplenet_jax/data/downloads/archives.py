"""Public data sets: where they are published, their checksums and terms."""

import dataclasses
from pathlib import PurePosixPath
from urllib.parse import urlsplit


@dataclasses.dataclass(frozen=True)
class Archive:
  """The file that a data set is published as.

  Attributes:
    name: What the data set is called here.
    title: What its authors call it.
    url: Of the file.
    sha256: The file's checksum, hexadecimal.
    folder: What it becomes, below the root of all data.
    config: The settings that read that folder.
    license: The terms, a short name.
    license_url: Where the terms are written.
    noncommercial: Whether commercial use is excluded; to be accepted first.
    citation: What to cite.
    most_bytes: A size that its files together stay well below.
    most_entries: A number that its files and folders stay well below.
  """

  name: str
  title: str
  url: str
  sha256: str
  folder: str
  config: str
  license: str
  license_url: str
  noncommercial: bool
  citation: str
  most_bytes: int
  most_entries: int

  @property
  def file_name(self) -> str:
    """The last part of the address."""
    return PurePosixPath(urlsplit(self.url).path).name

  @property
  def terms(self) -> str:
    """The licence in a line."""
    excluded = ', no commercial use' if self.noncommercial else ''
    return f'{self.license}{excluded} ({self.license_url})'


_BY_NC_SA = 'https://creativecommons.org/licenses/by-nc-sa/4.0/'

ARCHIVES = {
  archive.name: archive
  for archive in (
    Archive(
      name='mvtec_ad',
      title='MVTec AD',
      url='https://www.mydrive.ch/shares/150996/b52ecdcbf521176e9db9c731f2304b27/download/420938113-1629960298/mvtec_anomaly_detection.tar.xz',
      sha256='cf4313b13603bec67abb49ca959488f7eedce2a9f7795ec54446c649ac98cd3d',
      folder='mvtec',
      config='configs/mvtec.py',
      license='CC BY-NC-SA 4.0',
      license_url=_BY_NC_SA,
      noncommercial=True,
      citation='MVTec Software GmbH; Bergmann et al., IJCV 129, 2021',
      most_bytes=10_000_000_000,
      most_entries=20_000,
    ),
    Archive(
      name='visa',
      title='VisA',
      url='https://amazon-visual-anomaly.s3.us-west-2.amazonaws.com/VisA_20220922.tar',
      sha256='2eb8690c803ab37de0324772964100169ec8ba1fa3f7e94291c9ca673f40f362',
      folder='visa',
      config='configs/visa.py',
      license='CC BY 4.0',
      license_url='https://creativecommons.org/licenses/by/4.0/',
      noncommercial=False,
      citation='Zou et al., SPot-the-Difference, ECCV 2022',
      most_bytes=10_000_000_000,
      most_entries=40_000,
    ),
    Archive(
      name='btad',
      title='BTAD',
      url='https://avires.dimi.uniud.it/papers/btad/btad.zip',
      sha256='461c9387e515bfed41ecaae07c50cf6b10def647b36c9e31d239ab2736b10d2a',
      folder='btad',
      config='configs/btad.py',
      license='CC BY-NC-SA 4.0',
      license_url=_BY_NC_SA,
      noncommercial=True,
      citation='Mishra et al., VT-ADL, ISIE 2021',
      most_bytes=20_000_000_000,
      most_entries=20_000,
    ),
    Archive(
      name='cifar10',
      title='CIFAR-10',
      url='https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz',
      sha256='c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd',
      folder='cifar10',
      config='configs/cifar10.py',
      license='no licence stated',
      license_url='https://www.cs.toronto.edu/~kriz/cifar.html',
      noncommercial=False,
      citation='Krizhevsky, Learning Multiple Layers of Features, 2009',
      most_bytes=1_000_000_000,
      most_entries=100,
    ),
  )
}
