// Detect objects with an ONNX model: dotnet run -- --image photo.ppm, or --self-check. Needs Microsoft.ML.OnnxRuntime.
using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;

namespace Detector
{
    public static class OnnxInference
    {
        private static readonly string[] Known =
            { "--bundle", "--image", "--conf-thresh", "--iou-thresh", "--max-detections" };

        public static int Main(string[] words)
        {
            CultureInfo.CurrentCulture = CultureInfo.InvariantCulture; // numbers with a point
            try
            {
                var options = ReadOptions(words);
                string folder = options.ContainsKey("--bundle") ? options["--bundle"] : FindBundle();
                var spec = Files.ReadJson<Spec>(Path.Combine(folder, "spec.json"));
                using (var session = new InferenceSession(Path.Combine(folder, spec.Model.File)))
                {
                    Func<float[], float[]> model = input => Run(session, spec, input);
                    return options.ContainsKey("--self-check") ? SelfCheck(spec, folder, model) : Predict(spec, options, model);
                }
            }
            catch (Exception error)
            {
                Console.Error.WriteLine("Error: " + error.Message);
                return 1;
            }
        }

        /// <summary>From [3, H, W] to [4 + classes, anchors].</summary>
        private static float[] Run(InferenceSession session, Spec spec, float[] input)
        {
            var tensor = new DenseTensor<float>(input, new[] { 1, 3, spec.Input.Height, spec.Input.Width });
            var named = new[] { NamedOnnxValue.CreateFromTensor(spec.Input.Name, tensor) };
            using (var results = session.Run(named, new[] { spec.Output.Name }))
                return results.First().AsEnumerable<float>().ToArray();
        }

        private static int SelfCheck(Spec spec, string folder, Func<float[], float[]> model)
        {
            var golden = spec.Golden;
            float[] given = Files.ReadFloats(Path.Combine(folder, golden.Input.File));
            float[] expected = Files.ReadFloats(Path.Combine(folder, golden.Output.File));
            var wanted = Files.ReadJson<DetectionEntry[]>(Path.Combine(folder, golden.Detections.File));
            int rows = golden.Output.Shape[1], boxes = 4 * golden.Output.Shape[2];
            Place where;
            var canvas = Canvas(Path.Combine(folder, golden.Picture.Raw), spec, out where);
            float[] output = model(given);
            var found = Steps.Detect(expected, rows, where, golden.Nms.ToThresholds());
            var allowed = golden.Tolerances;
            bool passed = Tell("picture to input, grey levels", Largest(Steps.ToInput(canvas), given, 0, given.Length) * 255, allowed.Pixels);
            passed &= Tell("input to output, boxes in px", Largest(output, expected, 0, boxes), allowed.Boxes);
            passed &= Tell("input to output, scores", Largest(output, expected, boxes, expected.Length), allowed.Scores);
            passed &= Tell("output to detections", Compare(found, wanted), allowed.Detections);
            Console.WriteLine(passed ? "The golden output is reproduced" : "The golden output is NOT reproduced");
            return passed ? 0 : 1;
        }

        private static int Predict(Spec spec, Dictionary<string, string> options, Func<float[], float[]> model)
        {
            var nms = spec.Nms.ToThresholds();
            string text;
            if (options.TryGetValue("--conf-thresh", out text)) nms.Confidence = double.Parse(text);
            if (options.TryGetValue("--iou-thresh", out text)) nms.Iou = double.Parse(text);
            if (options.TryGetValue("--max-detections", out text)) nms.MaxDetections = int.Parse(text);
            Place where;
            var canvas = Canvas(options["--image"], spec, out where);
            var found = Steps.Detect(model(Steps.ToInput(canvas)), spec.Output.Shape[1], where, nms);
            Console.WriteLine("Found " + found.Count + " detections");
            for (int i = 0; i < found.Count; i++)
            {
                var one = found[i];
                string box = string.Join(", ", one.Box.Select(value => value.ToString("F1")));
                string name = spec.Classes[one.Label];
                Console.WriteLine($"  [{i}] Class {one.Label} ({name}): {one.Score:F3} [{box}]");
            }
            return 0;
        }

        private static Picture Canvas(string path, Spec spec, out Place where)
        {
            var picture = Files.ReadPicture(path);
            return Steps.Letterbox(picture, spec.Input.Width, spec.Input.Height, out where, spec.Letterbox.Fill[0]);
        }

        private static bool Tell(string name, double difference, double limit)
        {
            bool passed = difference <= limit;
            Console.WriteLine($"{(passed ? "ok  " : "FAIL")} {name}: {difference:G3} (allowed {limit:G3})");
            return passed;
        }

        /// <summary>Infinite where the lengths differ or a number is undefined.</summary>
        private static double Largest(float[] found, float[] expected, int from, int to)
        {
            if (found.Length != expected.Length) return double.PositiveInfinity;
            double largest = 0;
            for (int i = from; i < to; i++)
            {
                double difference = Math.Abs((double)found[i] - expected[i]);
                if (double.IsNaN(difference)) return double.PositiveInfinity;
                largest = Math.Max(largest, difference);
            }
            return largest;
        }

        private static double Compare(List<Detection> found, DetectionEntry[] wanted)
        {
            if (found.Count != wanted.Length) return double.PositiveInfinity;
            double largest = 0;
            for (int i = 0; i < wanted.Length; i++)
            {
                if (found[i].Label != wanted[i].Label) return double.PositiveInfinity;
                largest = Math.Max(largest, Math.Abs(found[i].Score - wanted[i].Score));
                for (int c = 0; c < 4; c++)
                    largest = Math.Max(largest, Math.Abs(found[i].Box[c] - wanted[i].Box[c]));
            }
            return largest;
        }

        private static Dictionary<string, string> ReadOptions(string[] words)
        {
            var options = new Dictionary<string, string>();
            for (int i = 0; i < words.Length; i++)
            {
                if (words[i] == "--self-check") options[words[i]] = "yes";
                else if (i + 1 < words.Length && Known.Contains(words[i])) options[words[i]] = words[++i];
                else throw new ArgumentException(
                    words[i] + " is no option; there are --self-check and, each with a value, " + string.Join(", ", Known));
            }
            if (!options.ContainsKey("--self-check") && !options.ContainsKey("--image"))
                throw new ArgumentException("give a picture with --image, or --self-check");
            return options;
        }

        /// <summary>The nearest folder above this program, or above the working folder, that has a spec.json.</summary>
        private static string FindBundle()
        {
            foreach (string start in new[] { AppContext.BaseDirectory, Directory.GetCurrentDirectory() })
                for (var folder = new DirectoryInfo(start); folder != null; folder = folder.Parent)
                    if (File.Exists(Path.Combine(folder.FullName, "spec.json"))) return folder.FullName;
            throw new FileNotFoundException("no spec.json in any folder above; name the folder with --bundle");
        }
    }
}
