"""Studies made in small, as DICOM files."""

from pathlib import Path

import numpy as np

WAYS = {"sagittal": (0, 1, 0, 0, 0, -1), "coronal": (1, 0, 0, 0, 0, -1), "axial": (1, 0, 0, 0, 1, 0)}
AXES = {"sagittal": 0, "coronal": 1, "axial": 2}
SECRET = "Doe^Jane", "MRN-778899", "ACC-5544"  # name, patient, accession: with the study's number behind them


def dataset(pixels: np.ndarray, study: str, series: str, number: int, **values):
    """A file of one image [H, W] or of frames [T, H, W]; values: other attributes."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = MRImageStorage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"{series}.{number}"
    data.StudyInstanceUID, data.SeriesInstanceUID, data.InstanceNumber = study, series, number
    data.Modality, data.ImageType = "MR", ["ORIGINAL", "PRIMARY", "M"]
    data.Rows, data.Columns = pixels.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
    data.PixelData = pixels.astype("<u2").tobytes()
    for name, value in values.items():
        setattr(data, name, value)
    return data


def save(data, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def write_series(folder: Path, volume: np.ndarray, plane: str, study: str, series: str, **values) -> None:
    """One file a frame of volume [T, H, W], in an order of names that is not that of the slices."""
    order = np.random.default_rng(1).permutation(len(volume))
    for number, t in enumerate(order.tolist()):
        place = [0.0, 0.0, 0.0]
        place[AXES[plane]] = 3.0 * t - 20
        at = {"ImageOrientationPatient": list(WAYS[plane]), "ImagePositionPatient": place, **values}
        save(dataset(volume[t], study, series, number + 1, **at), folder / f"IM{number:04}")


def who(patient: int, study: int) -> dict:
    """Attributes that tell of a person."""
    return {
        "PatientName": f"{SECRET[0]}{patient}",
        "PatientID": f"{SECRET[1]}{patient}",
        "AccessionNumber": f"{SECRET[2]}{study}",
        "PatientBirthDate": "19700101",
        "InstitutionName": "St Secret",
    }


def write_studies(root: Path, studies: int = 40, twice: int = 2, size: int = 32) -> list[tuple[str, int, int]]:
    """`studies` of three series each, the last `twice` of patients that have one already; (accession, acl, meniscus) of
    each. A bright bar stands where a label says so."""
    random, rows = np.random.default_rng(5), []
    for s in range(studies):
        patient = s if s < studies - twice else s - (studies - twice)
        truth = [s % 2, s % 3 == 0]
        study = f"1.2.826.0.1.3680043.8.498.{7000 + s}"
        for k, plane in enumerate(AXES):
            volume = random.integers(0, 700, (int(random.integers(5, 9)), size, size))
            for l, positive in enumerate(truth):
                volume[:, 6 + 12 * l : 10 + 12 * l, 4:28] += 800 * int(positive)
            values = {"SeriesDescription": f"{plane} PD", "RescaleSlope": "2", "RescaleIntercept": "0"}
            folder = root / f"{SECRET[0]}{patient}" / f"study{s}" / f"series{k}"
            write_series(folder, volume, plane, study, f"{study}.{k + 1}", **values, **who(patient, s))
        rows.append((f"{SECRET[2]}{s}", int(truth[0]), int(truth[1])))
    return rows
