// Models and checkpoints: safetensors files, written whole or not at all, read with suspicion.
// docs/file-format.md specifies them in bytes.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "wakesleep/machine.hpp"
#include "wakesleep/settings.hpp"

namespace wakesleep {

/// Metadata of a file: strings by name.
using Metadata = std::map<std::string, std::string>;

struct TensorFile {
  Tensors tensors;
  Metadata metadata;
};

/// Writes to a temporary in the same folder, syncs it, renames it over `path`, syncs the folder; a symbolic
/// link is replaced, a pipe or a device refused. Throws CannotCreateError or OutputError; `path` is then what
/// it was before. Throws UsageError before that for names, shapes, metadata or numbers of them that a file
/// cannot hold (docs/file-format.md).
void write_tensor_file(const std::string& path, const TensorFile& file);

/// Checks header length, JSON, names, dtypes (F32), shapes, offsets (contiguous, no holes, exact file length)
/// and the hash of every tensor before and after reading. Throws DataError naming file, tensor, what was
/// found and expected. Allocates at most about twice the size of the file.
TensorFile read_tensor_file(const std::string& path);

/// A model as `wakesleep` writes it: its tensors, and all it was trained with.
struct Model {
  Tensors tensors;    ///< parameters only
  Tensors optimizer;  ///< optimiser state; empty in a finished model
  Tensors algorithm;  ///< what the training algorithm carries: chain., activation., fisher.; empty in a
                      ///< finished model
  TrainingSettings settings;
  std::vector<std::int64_t> sizes;  ///< from the visible layer upward
  std::int64_t step = 0;
  std::int64_t height = 0, width = 0;  ///< image shape, 0 when unknown
  std::string hash;                    ///< hash_of(tensors)
  Metadata run;                        ///< further run state of a checkpoint, such as the data's fingerprint
};

/// The checkpoint as a finished model: its parameters and settings and the fingerprint of the data, without
/// what only a run that goes on needs.
Model finished(Model checkpoint);

/// A machine of the model's layers, prior, visible units and weight bits with its parameters, on the device of
/// `ops`, which must outlive it. Blocks. Throws as the constructor and upload() of Machine do.
Machine machine_of(Ops& ops, const Model& model);

/// As write_tensor_file. The file gets the hash of the tensors, whatever Model::hash says. Also throws
/// UsageError for settings that `check` refuses and for states whose names begin otherwise, DataError when
/// tensors, sizes, step or image shape are not those of one machine, or a value is not finite.
void save_model(const std::string& path, const Model& model);
/// Throws DataError when the file is damaged, was written under another arithmetic contract, or its tensors
/// do not form a machine.
Model load_model(const std::string& path);

}  // namespace wakesleep
