// Detect objects with an ONNX model: onnx_inference --image photo.ppm, or --self-check. C++17 and ONNX Runtime.

#include <onnxruntime_cxx_api.h>

#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "detector.hpp"
#include "files.hpp"
#include "json.hpp"

namespace {

using Options = std::map<std::string, std::string>;

class Model {
 public:
  Model(const std::string& path, const json::Value& spec)
      : session_(open(path)), input_(spec["input"]["name"].text), output_(spec["output"]["name"].text) {
    shape_ = {1, 3, std::int64_t(spec["input"]["height"].number), std::int64_t(spec["input"]["width"].number)};
  }

  // From [3, H, W] to [4 + classes, anchors].
  std::vector<float> operator()(std::vector<float>& input) {
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    Ort::Value tensor =
        Ort::Value::CreateTensor<float>(memory, input.data(), input.size(), shape_.data(), shape_.size());
    const char *given = input_.c_str(), *wanted = output_.c_str();
    auto results = session_.Run(Ort::RunOptions{nullptr}, &given, &tensor, 1, &wanted, 1);
    const float* values = results[0].GetTensorData<float>();
    return {values, values + results[0].GetTensorTypeAndShapeInfo().GetElementCount()};
  }

 private:
  Ort::Env env_{ORT_LOGGING_LEVEL_ERROR, "onnx_inference"};
  Ort::Session session_;
  std::string input_, output_;
  std::array<std::int64_t, 4> shape_;

  Ort::Session open(const std::string& path) {
    const std::string bytes = files::read(path);  // not by its path, which is of another type on Windows
    return Ort::Session(env_, bytes.data(), bytes.size(), Ort::SessionOptions{});
  }
};

detector::Thresholds thresholds(const json::Value& nms) {
  return {nms["confidence"].number, nms["iou"].number, std::size_t(nms["max_detections"].number),
          std::size_t(nms["max_candidates"].number)};
}

detector::Picture canvas_of(const detector::Picture& picture, const json::Value& spec, detector::Place& where) {
  return detector::letterbox(picture, int(spec["input"]["width"].number), int(spec["input"]["height"].number), where,
                             int(spec["letterbox"]["fill"].list[0].number));
}

// Infinite where the lengths differ or a number is undefined.
double largest_difference(const std::vector<float>& found, const std::vector<float>& expected, std::size_t from = 0,
                          std::size_t to = std::numeric_limits<std::size_t>::max()) {
  if (found.size() != expected.size()) return INFINITY;
  double largest = 0;
  for (std::size_t i = from; i < std::min(to, found.size()); ++i) {
    const double difference = std::abs(double(found[i]) - expected[i]);
    if (!(difference <= largest)) largest = std::isnan(difference) ? INFINITY : difference;
  }
  return largest;
}

double compare(const std::vector<detector::Detection>& found, const std::vector<json::Value>& wanted) {
  if (found.size() != wanted.size()) return INFINITY;
  double largest = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (found[i].label != int(wanted[i]["label"].number)) return INFINITY;
    largest = std::max(largest, std::abs(found[i].score - wanted[i]["score"].number));
    for (int c = 0; c < 4; ++c) largest = std::max(largest, std::abs(found[i].box[c] - wanted[i]["box"].list[c].number));
  }
  return largest;
}

int self_check(const json::Value& spec, const std::string& folder, Model& model) {
  const json::Value &golden = spec["golden"], &allowed = golden["tolerances"];
  std::vector<float> given = files::read_floats(folder + golden["input"]["file"].text);
  const std::vector<float> expected = files::read_floats(folder + golden["output"]["file"].text);
  const auto wanted = json::parse(files::read(folder + golden["detections"]["file"].text)).list;
  const auto& shape = golden["output"]["shape"].list;
  const std::size_t rows = std::size_t(shape[1].number), anchors = std::size_t(shape[2].number);
  detector::Place where{};
  const auto canvas = canvas_of(files::read_picture(folder + golden["picture"]["raw"].text), spec, where);
  const auto output = model(given);
  const auto found = detector::detect(expected.data(), rows, anchors, where, thresholds(golden["nms"]));
  struct Step {
    const char* name;
    double difference, limit;
  };
  const Step steps[] = {
      {"picture to input, grey levels", largest_difference(detector::to_input(canvas), given) * 255, allowed["pixels"].number},
      {"input to output, boxes in px", largest_difference(output, expected, 0, 4 * anchors), allowed["boxes"].number},
      {"input to output, scores", largest_difference(output, expected, 4 * anchors), allowed["scores"].number},
      {"output to detections", compare(found, wanted), allowed["detections"].number},
  };
  bool passed = true;
  for (const Step& step : steps) {
    const bool ok = step.difference <= step.limit;
    std::printf("%s %s: %.3g (allowed %g)\n", ok ? "ok  " : "FAIL", step.name, step.difference, step.limit);
    passed = passed && ok;
  }
  std::puts(passed ? "The golden output is reproduced" : "The golden output is NOT reproduced");
  return passed ? 0 : 1;
}

double number(const Options& options, const std::string& name, double otherwise) {
  const auto found = options.find(name);
  if (found == options.end()) return otherwise;
  char* end = nullptr;
  const double value = std::strtod(found->second.c_str(), &end);
  if (found->second.empty() || *end != 0 || !(value >= 0)) throw std::runtime_error(name + " must be a number from 0 on");
  return value;
}

int predict(const json::Value& spec, const Options& options, Model& model) {
  detector::Thresholds nms = thresholds(spec["nms"]);
  nms.confidence = number(options, "--conf-thresh", nms.confidence);
  nms.iou = number(options, "--iou-thresh", nms.iou);
  nms.max_detections = std::size_t(number(options, "--max-detections", double(nms.max_detections)));
  detector::Place where{};
  const auto canvas = canvas_of(files::read_picture(options.at("--image")), spec, where);
  std::vector<float> input = detector::to_input(canvas);
  const auto output = model(input);
  const auto& shape = spec["output"]["shape"].list;
  const std::size_t rows = std::size_t(shape[1].number);
  const auto found = detector::detect(output.data(), rows, output.size() / rows, where, nms);
  std::printf("Found %zu detections\n", found.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    const auto& one = found[i];
    std::printf("  [%zu] Class %d (%s): %.3f [%.1f, %.1f, %.1f, %.1f]\n", i, one.label,
                spec["classes"].list[one.label].text.c_str(), one.score, one.box[0], one.box[1], one.box[2], one.box[3]);
  }
  return 0;
}

Options read_options(int count, char** words) {
  Options options;
  for (int i = 1; i < count; ++i) {
    const std::string name = words[i];
    if (name == "--self-check")
      options[name] = "yes";
    else if (i + 1 < count && (name == "--bundle" || name == "--image" || name == "--conf-thresh" ||
                               name == "--iou-thresh" || name == "--max-detections"))
      options[name] = words[++i];
    else
      throw std::runtime_error(name + " is no option; there are --self-check, --image FILE, --bundle FOLDER, "
                               "--conf-thresh X, --iou-thresh X, --max-detections N");
  }
  if (!options.count("--self-check") && !options.count("--image"))
    throw std::runtime_error("give a picture with --image, or --self-check");
  return options;
}

}  // namespace

int main(int count, char** words) {
  try {
    const Options options = read_options(count, words);
    const std::string folder = (options.count("--bundle") ? options.at("--bundle") : std::string(BUNDLE)) + "/";
    const json::Value spec = json::parse(files::read(folder + "spec.json"));
    Model model(folder + spec["model"]["file"].text, spec);
    return options.count("--self-check") ? self_check(spec, folder, model) : predict(spec, options, model);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "Error: %s\n", error.what());
    return 1;
  }
}
