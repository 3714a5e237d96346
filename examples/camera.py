"""Judges a camera's frames with a trained detector, or the images of a folder.

python examples/camera.py DETECTOR           # the first camera, with OpenCV
python examples/camera.py DETECTOR FOLDER    # needs neither camera nor OpenCV
"""

import sys

from simplenet_jax import Detector


def frames():
  """Yields the camera's frames, uint8 [height, width, 3], blue first."""
  try:
    import cv2  # pyright: ignore[reportMissingImports]
  except ImportError:
    sys.exit('error: pip install opencv-python-headless, or give a FOLDER')
  camera = cv2.VideoCapture(0)
  while True:
    read, frame = camera.read()
    if not read:
      return
    yield frame


def main(path: str, folder: str = '') -> None:
  """Prints each image's verdict, and where its defects are."""
  detector = Detector.load(path)
  detector.warm_up()  # Compiles before the line starts.
  given, channels = (folder, 'rgb') if folder else (frames(), 'bgr')
  # From a generator, each verdict comes before the next frame is asked for.
  for found in detector.predict(given, channels=channels):
    print(found)
    for region in found.regions or ():
      x, y, width, height = region.box
      print(f'  {width} x {height} pixels at x = {x}, y = {y}')


if __name__ == '__main__':
  if len(sys.argv) not in (2, 3):
    sys.exit(__doc__)
  main(*sys.argv[1:])
